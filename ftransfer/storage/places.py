"""Places that images and feature sets lie in: a folder on disk, or a URL that fsspec knows.

`place` turns what a user wrote into a `pathlib.Path` or a `Remote`, which has as much of a path's interface as is used
here. On disk nothing changes; fsspec is imported once a URL is met.

A store has neither locks nor renames, but an object that is put appears whole or not at all, and most stores can be
told to put it only if what is there has not changed: on these two the promises of `ftransfer.features` rest there.
"""

import errno
import hashlib
import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ftransfer.errors import FtransferError, unknown

READERS = 32  # images of a store that are asked for at once, at the least: it answers many, each of them late
KEPT = 2**16  # bytes of a read that is kept, as it may be asked for again
PUT = 5 * 2**30  # bytes that S3 takes in one request; an upload in pieces could not be made conditional
# a connection for each reader; what refuses is tried again for some seconds, what is silent for four times 15
S3 = {"max_pool_connections": 2 * READERS, "retries": {"mode": "standard", "max_attempts": 4}}
PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub", "az": "adlfs", "abfs": "adlfs"}
SIGNED = re.compile(r"(?i)[?&](x-(amz|goog|oss)-\w+|signature|sig|awsaccesskeyid|token|key)=")  # of a URL
# what S3 says of the account or the bucket, not of one object
ACCOUNT = (
    "NoSuchBucket InvalidBucketName AllAccessDisabled AccountProblem NotSignedUp PermanentRedirect ExpiredToken "
    "InvalidToken TokenRefreshRequired InvalidAccessKeyId SignatureDoesNotMatch RequestTimeTooSkewed "
    "AuthorizationHeaderMalformed IllegalLocationConstraintException"
)


class Unreachable(FtransferError):
    """A store that does not answer, or not to this user: no reason to call one image unreadable."""


def is_remote(location: object) -> bool:
    """Whether this is a URL of a store.

    >>> is_remote("S3://bucket/photos"), is_remote("simplecache::s3://b/p"), is_remote("torchvision:CIFAR10")
    (True, True, False)
    """
    return isinstance(location, Remote) or bool(
        re.match(r"(?i)(?!(file|local):/)([a-z][a-z0-9+.-]+::)*[a-z][a-z0-9+.-]+://", str(location))
    )


def place(location: "str | Place") -> "Place":
    """Return the `Path` or, of a URL, the `Remote` that a user means.

    Raises
    ------
    FtransferError
        If the URL holds a password, no package for its store is installed, or none is known.
    """
    if isinstance(location, Path | Remote):
        return location
    text = str(location)
    return _open_url(text) if is_remote(text) else _on_disk(text)


def local(location: "str | Place", what: str) -> Path:
    """Return a path on disk, of what cannot lie in a store."""
    if is_remote(location):
        raise FtransferError(f"{what} must be on disk, not at {clean(str(location))}; give a local path")
    return location if isinstance(location, Path) else _on_disk(str(location))


def _on_disk(text: str) -> Path:
    if text.lower().startswith(("file://", "local://")):
        return Path(url2pathname(urlsplit(text).path))
    return Path(text).expanduser()


def clean(text: str) -> str:
    """Take passwords and signatures out of a text.

    >>> clean("no answer from http://me:secret@host/x?X-Amz-Signature=12")
    'no answer from http://host/x?...'
    """
    return re.sub(r"(://[^\s?]*\?)\S*", r"\1...", re.sub(r"://[^/\s@]*@", "://", text))


def _open_url(url: str) -> "Remote":
    protocol, rest = url.split("://", 1)
    url = f"{protocol.lower()}://{rest}"
    if (
        re.match(r"[^:]+://[^/@]*:[^/]*@", url)
        or (url.startswith("http") and "?" in url)
        or SIGNED.search(url)
    ):
        raise FtransferError(
            f"{clean(url)} was given with a password or signature, which would be stored beside the features; "
            f"remove it: credentials come from the environment or the store's own files"
        )
    protocol = protocol.lower()
    if "::" in protocol:
        raise FtransferError(
            f"{clean(url)} goes through {protocol.split('::')[0]}; give the URL of the store itself, "
            f"{clean(url.rsplit('::', 1)[1])}: what is read of a store is kept on this machine anyway"
        )
    if "::" in rest or not rest.strip("/"):
        raise FtransferError(f"{clean(url)} is not the URL of a store; give one such as s3://bucket/photos")
    if find_spec("fsspec") is None:
        raise FtransferError(f'{protocol}:// needs the extra [remote]: pip install "ftransfer[remote]"')
    import fsspec

    given = fsspec.config.conf.get(protocol, {})
    options: dict[str, Any] = {"use_listings_cache": False}
    if protocol in ("s3", "s3a"):
        options |= {"max_concurrency": 1, "config_kwargs": S3}  # the former: one request an image
    try:
        fs, _ = fsspec.url_to_fs(url, **{k: v for k, v in options.items() if k not in given})
    except ImportError as error:
        package = PACKAGES.get(protocol)
        how = f"pip install {package}" if package else f'pip install "ftransfer[remote]" ({error})'
        raise FtransferError(f"{protocol}:// needs a package that is not installed: {how}") from None
    except Exception as error:  # some stores are asked at once
        if isinstance(error, ValueError) and "rotocol" in str(error):
            raise unknown("store", f"{protocol}://", [f"{p}://" for p in ("s3", "gs", "hf", "az")]) from None
        raise _refusal(url, error) from None
    if options.get("config_kwargs") and "config_kwargs" not in given:
        fs.retries = 2  # of s3fs, each with all of those
    return Remote(url.rstrip("/"), fs)


@dataclass(order=True, unsafe_hash=True)
class Remote:
    """A file or folder of a store: that part of `pathlib.Path` which is used here.

    What goes wrong is a FileNotFoundError where nothing is there, `Unreachable` where the store does not answer, and
    another `FtransferError` where it refuses this one object.
    """

    url: str
    fs: Any = field(compare=False)
    listed: dict | None = field(default=None, compare=False)  # what the store said of it, in a list

    def __post_init__(self) -> None:
        self.path: str = self.fs._strip_protocol(self.url)
        pure = PurePosixPath(self.path)
        self.name, self.stem, self.suffix = pure.name, pure.stem, pure.suffix
        self.is_s3 = "s3" in self.fs.protocol

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str | PurePosixPath) -> "Remote":
        return self if str(name) == "." else Remote(f"{self.url}/{name}", self.fs)

    @property
    def parent(self) -> "Remote":
        """The folder that it is in; of a bucket, itself."""
        above = self.url.rsplit("/", 1)[0]
        return self if above.endswith("/") else Remote(above, self.fs)

    def resolve(self) -> "Remote":
        """Return itself: a URL has no links."""
        return self

    def with_name(self, name: str) -> "Remote":
        """Another file of the same folder."""
        return self.parent / name

    # ------------------------------------------------------------ what is there

    def info(self) -> dict:
        """What the store says of it: as it was listed, or else asked now."""
        if self.listed is not None:
            return self.listed
        with _asking(self.url):
            return self.fs.info(self.path)

    def _is(self, kind: str) -> bool:
        try:
            return self.info()["type"] == kind
        except FileNotFoundError:
            return False

    def is_file(self) -> bool:
        """Whether it is an object."""
        return self._is("file")

    def is_dir(self) -> bool:
        """Whether objects lie under it."""
        return self._is("directory")

    def exists(self) -> bool:
        """Whether anything is there."""
        return self.is_file() or self.is_dir()

    def stat(self) -> SimpleNamespace:
        """Return ``st_size``, and as ``st_mtime_ns`` a number that changes with the content."""
        info = self.info()
        return SimpleNamespace(st_size=info["size"], st_mtime_ns=_version(info))

    def iterdir(self) -> list["Remote"]:
        """List a folder, by one call."""
        try:
            with _asking(self.url):
                found = self.fs.ls(self.path, detail=True)
        except FileNotFoundError:
            return []
        if any(each["name"].endswith("//") for each in found):
            raise FtransferError(
                f"{self.url} has keys with an empty segment, {clean(self.url)}//..., which cannot be folder names; "
                f"rename them"
            )
        children = {each["name"].rstrip("/"): each for each in found}
        children.pop(
            self.path.rstrip("/"), None
        )  # a folder may lie in itself, as the empty object that marks it
        names = [name.rsplit("/", 1)[-1] for name in children]
        return [
            Remote(f"{self.url}/{n}", self.fs, each) for n, each in zip(names, children.values(), strict=True)
        ]

    def glob(self, pattern: str) -> list["Remote"]:
        """List those of a folder whose names match."""
        return [each for each in self.iterdir() if fnmatchcase(each.name, pattern)]

    # ------------------------------------------------------------ contents

    def read_bytes(self) -> bytes:
        """Read an object, by one request."""
        with _asking(self.url):
            return self.fs.cat_file(self.path)

    def read_range(self, start: int, size: int) -> bytes:
        """Read a part of an object, by one request."""
        with _asking(self.url):
            return self.fs.cat_file(self.path, start=start, end=start + size)

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Read an object as text."""
        return self.read_bytes().decode(encoding, errors)

    def open(self) -> "_Pieces":
        """Open an object for reading; each read is one request."""
        return _Pieces(self)

    def write_bytes(self, content: bytes) -> None:
        """Put an object, whole or not at all."""
        self._put(content)

    def _put(self, content: bytes, **condition: Any) -> None:
        whole = {"chunksize": PUT} if self.is_s3 else {}
        with _asking(self.url):
            self.fs.pipe_file(self.path, bytes(content), **whole, **condition)

    def write_if(self, content: bytes, seen: dict | None) -> bool:
        """Put an object if what is there is still what `seen`, its `info`, says; None: nothing was there.

        S3 is told to compare by itself. Elsewhere it is compared here just before, so that a writer who comes in
        between is written over.
        """
        try:
            if seen is None:
                self._put(content, mode="create")
            elif _version(self.info()) != _version(seen):
                return False
            else:
                self._put(content, **{"IfMatch": seen["ETag"]} if self.is_s3 else {})
        except NotImplementedError:  # S3 of another maker, without conditions
            self._put(content)
        except (FileExistsError, FileNotFoundError):  # the latter: it went meanwhile
            return False
        return True

    def mkdir(self, **options: Any) -> None:
        """Do nothing: in a store a folder is there once something is in it."""

    def replace(self, target: "Remote") -> None:
        """Move an object: it is copied, then removed."""
        with _asking(self.url):
            self.fs.mv(self.path, target.path)


Place = Path | Remote  # what `place` gives


def list_folders(root: Remote, folders: list[PurePosixPath]) -> Iterator[tuple[Remote, PurePosixPath]]:
    """Yield what is in some folders, and its path relative to `root`; one call a folder, many at once."""
    with ThreadPoolExecutor(READERS) as pool:
        for inside, children in zip(folders, pool.map(lambda f: (root / f).iterdir(), folders), strict=True):
            yield from ((child, inside / child.name) for child in children)


class _Pieces(io.RawIOBase):
    """An object as a file that can be read from anywhere, each read one request."""

    def __init__(self, remote: Remote):
        self.remote, self.size, self.at = remote, remote.info()["size"], 0
        self.kept: dict[
            tuple[int, int], bytes
        ] = {}  # an end is read several times, by who looks for what the object holds

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + (0, self.at, self.size)[whence]
        return self.at

    def readinto(self, into: Any) -> int:
        end = min(self.at + len(into), self.size)
        if end <= self.at:
            return 0
        content = self.kept.get((self.at, end))
        if content is None:
            with _asking(self.remote.url):
                content = self.remote.fs.cat_file(self.remote.path, start=self.at, end=end)
        if len(content) < KEPT:
            self.kept[self.at, end] = content
        into[: len(content)] = content
        self.at += len(content)
        return len(content)


def _version(info: dict) -> int | None:
    """Draw a number of 63 bits from what a store says of a content: its ETag or hash, or else the time of change."""
    names = ("ETag", "etag", "md5Hash", "sha256", "blob_id", "oid", "generation", "mtime", "LastModified")
    told = next(
        (info[name] for name in (*names, "last_modified", "modified", "created") if info.get(name)), None
    )
    if told is None:
        return None
    told = told.timestamp() if isinstance(told, datetime) else told
    return int.from_bytes(hashlib.sha256(f"{told} {info.get('size')}".encode()).digest()[:8]) >> 1


@contextmanager
def _asking(url: str) -> Iterator[None]:
    """Turn what the many packages behind fsspec raise into the errors that `Remote` promises."""
    try:
        yield
    except (FtransferError, TypeError, AttributeError, NameError):  # the latter are faults of a program
        raise
    except Exception as error:
        raise _refusal(url, error) from error


def _refusal(url: str, error: Exception) -> Exception:
    cause = next(
        (e for e in (error, error.__cause__) if isinstance(getattr(e, "response", None), dict)), error
    )
    answer = getattr(cause, "response", None) or {}
    told, status = answer.get("Error", {}), answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code, said = told.get("Code", ""), told.get("Message") or str(error) or type(error).__name__
    said = clean(" ".join(said.split())[:300])
    if isinstance(error, FileExistsError) or code in (
        "PreconditionFailed",
        "412",
        "ConditionalRequestConflict",
    ):
        return FileExistsError(errno.EEXIST, "another process wrote it first")
    if isinstance(error, FileNotFoundError) and code != "NoSuchBucket":
        return FileNotFoundError(errno.ENOENT, f"not there: {said}")
    if code in ("NotImplemented", "501"):
        return NotImplementedError(said)
    of_account = code in ACCOUNT.split()
    if not of_account and (isinstance(error, PermissionError | IsADirectoryError) or 400 <= status < 429):
        return FtransferError(f"{url} is refused: {said}")
    hint = ""
    if "redential" in said:
        hint = "; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (public bucket: FSSPEC_S3_ANON=1)"
    elif of_account:
        hint = "; check the bucket's name, and the credentials"
    elif url.startswith("s3") and not code:
        hint = "; check the network and, if it is not Amazon's, AWS_ENDPOINT_URL"
    return Unreachable(f"{'/'.join(url.split('/')[:3])} cannot be used: {said}{hint}")
