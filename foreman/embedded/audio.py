"""The multipart form of /v1/audio/transcriptions."""

import base64
import io

from python_multipart import parse_form
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File

from foreman.embedded.dialect import Dialect
from foreman.embedded.go import BadRequest
from foreman.embedded.http1 import Request
from foreman.embedded.inference import Call
from foreman.embedded.openai import Transcription


def transcription(request: Request, body: bytes) -> tuple[Call, Dialect, bool]:
    """The call in a form. Raises BadRequest."""
    fields, files = _parts(request, body)
    if not fields.get("model"):
        raise BadRequest("model is required")
    if "file" not in files:
        raise BadRequest("file is required: http: no such file")
    if not files["file"]:
        raise BadRequest("audio file is empty")
    message = {
        "role": "user",
        "content": fields.get("prompt") or "Transcribe the audio.",
        "images": [base64.b64encode(files["file"]).decode()],
    }
    call = Call(path=request.path, model=fields["model"], chat=True, messages=(message,))
    return call, Transcription(text=fields.get("response_format") == "text"), False


def _parts(request: Request, body: bytes) -> tuple[dict[str, str], dict[str, bytes]]:
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}

    def on_field(field: Field) -> None:
        fields[(field.field_name or b"").decode()] = (field.value or b"").decode()

    def on_file(file: File) -> None:
        file.file_object.seek(0)
        files[(file.field_name or b"").decode()] = file.file_object.read()

    content_type = request.header(b"content-type") or b""
    headers = {"Content-Type": content_type, "Content-Length": b"%d" % len(body)}
    try:
        parse_form(headers, io.BytesIO(body), on_field, on_file)
    except (FormParserError, ValueError) as error:
        raise BadRequest(f"failed to parse multipart form: {error}") from None
    return fields, files
