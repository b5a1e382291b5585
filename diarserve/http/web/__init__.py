"""The static files of the pages: plain ES modules, without a build step."""
