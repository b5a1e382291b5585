"""What the hostile requests are made of: each value is odd, or right for another place."""

from __future__ import annotations

TEXTS = (
    "", " ", "\0", "a\0b", "\r\n", "a\r\nX-Evil: 1", "é", "日本語", "\u202e\u0000", "😀", "\ud800", "\udcff", "\ufeff",
    "A" * 300, "A" * 5000, "-1", "0", "1", "1e400", "-1e400", "nan", "inf", "9" * 400, "0x10", "1_0", "１", "true",
    "null", "[]", "{}", '{"a":', "'; DROP TABLE tasks; --", "../../etc/passwd", "%s%n", "${jndi:ldap://x}", "<script>",
    "http://127.0.0.1:9/", "file:///etc/passwd", "http://[::1", "http://a@b@c/", "//", "json", "srt", "high", "en",
)  # fmt: skip
NUMBERS = ("-1", "+5", "1.5", "0x5", "5, 5", "5,6", "99999999999999999999999", "１", "", " ", "abc", "\0", "1 2", "-0")
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PRI", "get", "G\0T", "GÉT",
           "", " GET", "A" * 9000, "BREW")  # fmt: skip
TARGETS = ("*", "/", "//", "/%", "/%ff", "/%00", "/..%2f..%2fetc/passwd", "/\xff", "http://evil.example/", "http://[",
           "/" + "a" * 9000, "?", "#", "/v1/%ff%fe", "/v1/" + "x/" * 2000, "/é", "evil:443",
           "/api/v1/parallel/status/%ff", "/api/v1/parallel/result/%00", "/v1/models/%ff", "/v1/models/\ud800",
           "/docs/../docs")  # fmt: skip
VERSIONS = ("HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/9.9", "HTTP/1.10", "http/1.1", "HTTP/", "", "JUNK",
            "HTTP/1.1 ", "HTTP/\xb9.1")  # fmt: skip
GARBAGE = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # a TLS hello
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\0" * 100 + b"\r\n\r\n",
    b"\xff" * 100 + b"\r\n\r\n",
    b"\r\n" * 50 + b"nonsense\r\n\r\n",
    b"GET / HTTP/1.1\n\n",
    b"{}\r\n\r\n",
)
HEADERS = (
    ("Expect", ("100-continue", "100-Continue", "é", "\xff", "200-ok", "100-continue, x", "", "\udcff", "A" * 2000)),
    ("Range", ("bytes=0-", "bytes=5-2", "bytes=-0", "bytes=" + "0-1," * 500, "é", "items=1-2", "bytes=9" * 50)),
    ("Content-Encoding", ("gzip", "deflate", "br", "zstd", "é", "identity", "gzip, gzip", "compress")),
    ("Content-Type", ("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\xe9",
                      "multipart/form-data; boundary=" + "b" * 200, "multipart/mixed; boundary=x", "é/é", "", ";;;",
                      'multipart/form-data; boundary="x', "multipart/x; boundary=x; boundary=y",
                      "application/json; charset=nonsense", "text/plain; charset=utf-16")),
    ("Transfer-Encoding", ("chunked", "chunked, chunked", "gzip, chunked", "identity", "é", "xchunked", " chunked",
                           "chunked\t", "")),
    ("Content-Length", NUMBERS),
    ("Host", ("", "é", "evil.example", "a b", "[::1", "x:99999", "\0", "A" * 1000)),
    ("Connection", ("close", "keep-alive", "Upgrade", "é", "close, keep-alive")),
    ("Upgrade", ("websocket", "h2c", "é")),
    ("Accept", ("é", "*/*;q=9", "text/html", "," * 500)),
    ("Cookie", ("a=b; c", "é=é", "=" * 500, "\xff")),
    ("Authorization", ("Bearer é", "Basic !!!", "Token", "\xff")),
    ("X-Request-ID", ("é", "\xff", "A" * 500, "a b", "", "\x7f")),
    ("X-Forwarded-For", ("127.0.0.1", "é", "256.1.1.1, ::1", "," * 300)),
    ("Idempotency-Key", ("é", "A" * 300, " ", "\xff", "k")),
    ("Prefer", ("respond-async", "é", "wait=é")),
    ("Last-Event-ID", ("é", "-1", "9" * 500)),
    ("If-None-Match", ('"é"', "*", '"', "W/")),
    ("If-Modified-Since", ("yesterday", "Thu, 01 Jan 99999 00:00:00 GMT")),
    ("Origin", ("null", "http://evil.example", "é")),
    ("Sec-WebSocket-Key", ("é", "x")),
    ("A" * 9000, ("x",)), ("X-Long", ("v" * 9000,)), ("Bad Name", ("x",)), ("é", ("x",)), ("", ("x",)),
    ("X\0Y", ("x",)),
)  # fmt: skip
DISPOSITIONS = (
    'form-data; name="{field}"', "form-data; name={field}", 'form-data; name="{field}"; filename="\xff\xfe.wav"',
    "form-data; name*=utf-8''%ff%fe", "form-data; name*=nonsense''a", 'form-data; name*0="fi"; name*1="le"',
    'form-data; name="fi\0le"', 'form-data; name="\xff"', "form-data", "", "attachment", "form-data; name=",
    'form-data; name="file"; filename="' + "a" * 4000 + '"', 'form-data; name="file"; filename*=utf-8\'\'%00%0d%0a',
    'form-data; name="file"; filename="../../../etc/passwd"', 'form-data; name="{field}"; filename=""',
    ';;;;', 'form-data; name="unfinished', "form-data; name=\"a\"; name=\"b\"", "é; é=é",
)  # fmt: skip
PART_HEADERS = ("Content-Type: multipart/mixed; boundary=y", "Content-Type: é", "Content-Transfer-Encoding: base64",
                "Content-Transfer-Encoding: quoted-printable", "Content-Transfer-Encoding: é", "Content-Encoding: gzip",
                "Content-Encoding: nonsense", "Content-Length: 5", "Content-Length: -5", "Content-Length: x",
                "Content-Length: 99999999999", "no colon", ": x", "X: " + "v" * 9000, "\0: \0",
                "Content-Type: text/plain; charset=nonsense",
                "Content-Type: application/x-www-form-urlencoded")  # fmt: skip
PARAMETERS = ("limit", "before", "status", "batch_id", "format", "response_format", "language", "%ff", "", "é", "a\0",
             "model", "stream", "%00", "num_speakers", "callback_url", "[]")  # fmt: skip
FIELDS = ("language", "num_speakers", "min_speakers", "beam_size", "temperature", "response_format", "priority",
             "diarizer", "whisper_model", "model", "stream", "callback_url", "timestamp_granularities[]", "prompt",
             "source_separation", "\ud800", "unknown")  # fmt: skip
