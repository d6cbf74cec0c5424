"""What an image, clip or file is, where the client did not say: by its first bytes, or its name."""

import mimetypes
from typing import Literal

from modelspend import chat

# The start of a file in base64; three bytes are four characters, so only whole groups count.
_STARTS = {
    "iVBORw0K": "image/png",
    "/9j/": "image/jpeg",
    "R0lGOD": "image/gif",
    "UklGR": "image/webp",
    "JVBERi": "application/pdf",
    "SUQz": "audio/mpeg",
    "T2dnUw": "audio/ogg",
    "ZkxhQ": "audio/flac",
}
_USUAL: dict[Literal["image", "audio", "video", "file"], str] = {
    "image": "image/jpeg",
    "audio": "audio/mpeg",
    "video": "video/mp4",
    "file": "application/pdf",
}


def media_type(part: chat.Media) -> str:
    """The type that the client told, else what the bytes or the link look like, else the usual."""
    if part.mime and "/" in part.mime:
        return part.mime.partition(";")[0].strip().lower()
    if part.data:
        for start, told in _STARTS.items():
            if part.data.startswith(start):
                return told
    name = part.url or str(part.extra.get("filename") or "")
    guessed = mimetypes.guess_type(name.partition("?")[0].partition("#")[0])[0]
    return guessed or _USUAL[part.kind]
