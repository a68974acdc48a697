"""The five websocket handshakes of which stock Hypercorn on trio dies, one connection each."""

HANDSHAKE = (
    b"GET /events HTTP/1.1\r\nHost: foreman\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)

FATAL = {
    "trailing-bytes": HANDSHAKE + b"\r\n" + b"\x00garbage",
    "content-length-body": HANDSHAKE + b"Content-Length: 5\r\n\r\nhello",
    "chunked-body": HANDSHAKE + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "non-ascii-extensions": HANDSHAKE + b"Sec-WebSocket-Extensions: \xff\r\n\r\n",
    "non-ascii-protocol": HANDSHAKE + b"Sec-WebSocket-Protocol: \xff\r\n\r\n",
}
