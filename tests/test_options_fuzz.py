"""Whatever stands in a form's fields, they are options or refused by name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from diarserve.core.errors import InvalidRequest
from diarserve.core.options import Options, parse
from diarserve.http.openai.options import read
from tests.support import hostile_values

NAMES = st.sampled_from([*Options.model_fields, "format", "model", "stream", "timestamp_granularities[]"]) | st.text()
VALUES = st.text() | st.sampled_from(hostile_values.TEXTS) | st.integers().map(str) | st.floats().map(str)
FORMS = st.dictionaries(NAMES, st.lists(VALUES, min_size=1, max_size=3), max_size=5)


@pytest.mark.parametrize("read_form", [lambda fields: parse(Options, fields), lambda fields: read(fields)[0]])
@given(fields=FORMS)
@settings(max_examples=200, deadline=None, database=None, derandomize=True)
def test_fields_are_options_or_refused(read_form: object, fields: dict[str, list[str]]) -> None:
    assert callable(read_form)
    try:
        options = read_form(fields)
    except InvalidRequest:
        return
    assert isinstance(options, BaseModel)
    json.loads(options.model_dump_json(exclude_defaults=True))  # as a task's row keeps them
