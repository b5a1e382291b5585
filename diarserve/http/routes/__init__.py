"""The endpoints, one module for each subject.

To add an endpoint, write its handler in the module of its subject, and describe it beside:

    class Greeting(Struct):
        text: str

    @routes.get("/api/v1/parallel/greeting")
    @describe(
        "Say hello",
        {200: Answer("Hello.", Greeting)},
        errors=[400],
        parameters=[Parameter("name")],
        needs="read",  # what an access key must be for
    )
    async def greeting(request: web.Request) -> web.Response:
        service = request.app[SERVICE]
        if not (name := request.query.get("name")):
            raise InvalidRequest("Say who is to be greeted.", param="name")
        return json(Greeting(f"Hello, {name}."))

- A new module's `routes` go into `TABLES` of diarserve/http/app.py.
- Errors are raised (diarserve/core/errors.py); the middleware answers them.
- Recordings are received by `uploads.receive`, options validated by `parse` (diarserve/core/options.py).
- Answers are structs, sent by `json`, or `large_response` where they grow with the recording; streams by `sse.stream`.
- tests/test_openapi.py sends requests made from the description, and compares the answers with it.
"""
