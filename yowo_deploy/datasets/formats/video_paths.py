"""Read what annotations call their video by: a path, a name, or an address."""

from __future__ import annotations

import base64
import re
import unicodedata
from urllib.parse import unquote

from yowo_deploy.video.suffixes import is_video

_HOST = re.compile(r"[a-z][a-z0-9+.-]+://[^/?#]*/?", re.IGNORECASE)  # where passwords stand, too
_WEB = re.compile("https?:", re.IGNORECASE)  # in keys of s3://, gs:// and azure-blob:// ? and # are letters
_IN_QUERY = re.compile(r"[?&](d|fileuri)=(.*)$", re.DOTALL)  # of Label Studio: local files, files behind its proxy


def paths_in(reference: str) -> list[str]:
    """Paths that a reference may mean, in the order to look for them; the first may be shown and stored.

    A name, and a key in a bucket (`s3://`), may have percent signs, ? and #; an address has them as syntax: its path is
    percent-encoded, and what is behind ? may be a signature, which is in none of the paths; but the name of a video in
    there is, as of `?file=a.mp4`, where the path has none. Label Studio names local files by `?d=` and those behind its
    proxy by `?fileuri=`, in base64.
    """
    host, inside = _HOST.match(reference), _IN_QUERY.search(reference)
    path = re.split("[?#]", reference[host.end() :])[0] if host else reference.partition("?")[0]
    if host and is_video(reference) and not _WEB.match(reference):
        path = reference[host.end() :]
    if inside:
        kind, value = inside.groups()
        found = paths_in(value if kind == "d" else _from_base64(value))
    elif host or (path != reference and is_video(unquote(path))):
        values = (unquote(value.partition("=")[2]) for value in re.split("[?&#]", reference)[1:])
        named = [] if is_video(unquote(path)) else [value for value in values if is_video(value)]
        found = [*named, unquote(path), path]
    else:
        found = [reference, unquote(reference)]
    return list(dict.fromkeys(found))


def stored_name(name: str) -> str:
    """A file's name as web applications store uploads (Django, `get_valid_filename`), in Unicode's composed form."""
    plain = unicodedata.normalize("NFC", name).strip().replace(" ", "_")
    return re.sub(r"[^-\w.]", "", plain)


def folded(name: str) -> str:
    """A key that names have in common which differ by case or by Unicode form alone, as after a copy by a Mac."""
    return f"\0{unicodedata.normalize('NFC', name).casefold()}"


def _from_base64(text: str) -> str:
    code = text.partition("&")[0]
    try:
        return base64.urlsafe_b64decode(unquote(code) + "=" * (-len(code) % 4)).decode()
    except ValueError:
        return ""
