"""Which files belong to a set of images of one's own, with their classes: by folders, or by a table of paths and labels."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from spaceevo.errors import UserError, bad_value

#: Ends of names that images have, in small letters.
ENDS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".avif")
PARTS = ("train", "val", "test")
TABLES = (".csv", ".parquet")


class File(NamedTuple):
    """An image: its path, the class it is of, and the part that it was put in, None where the split is ours to make."""

    path: str
    name: str
    part: str | None


@dataclass
class Listing:
    """The files of a set. ``names``: of the classes, in the labels' order; ``given``: those of ``PARTS`` that are there;
    ``skipped``: how many files are no images, by the ends of their names."""

    root: Path
    files: list[File] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    given: tuple[str, ...] = ()
    skipped: Counter[str] = field(default_factory=Counter)

    def short(self, path: str) -> str:
        """A path as it is told: without what all have in common, and what cannot be printed written out."""
        base = self.root if self.root.is_dir() else self.root.parent
        told = path.removeprefix(f"{base}{os.sep}")
        return told.encode("utf-8", "backslashreplace").decode()


def list_files(root: str) -> Listing:
    """The images of ``data.root``: class folders, or ``train``, ``val`` and ``test`` with class folders in each, or a ``.csv``
    or ``.parquet`` file with the columns ``path`` (relative to the file), ``label`` and perhaps ``split``.

    Raises:
        UserError: there is none, or nothing that is laid out so, or no two classes of images.
    """
    if not root.strip() or "\0" in root:
        raise UserError("data.root: has no value; give the folder of your images, e.g. data.root=photos")
    listing = Listing(Path(root).expanduser())
    try:
        if listing.root.suffix.lower() in TABLES and listing.root.is_file():
            _from_table(listing)
        else:
            _from_folders(listing)
    except OSError as error:
        raise UserError(f"data.root={root}: {error.filename or root}: {error.strerror}") from None
    if not listing.files:
        what = ", ".join(f"{count} {end}" for end, count in listing.skipped.most_common(5))
        raise UserError(f"data.root={root}: no images in it{f' (but {what})' if what else ''}; they end in {', '.join(ENDS)}")
    listing.names = _ordered({*listing.names, *(file.name for file in listing.files)})
    if len(listing.names) == 1:
        raise UserError(f"data.root={root}: one class alone ({listing.names[0]}); a classifier needs two or more")
    odd = [name for name in listing.names if not name.isprintable() or not name.strip()]
    if odd:
        raise UserError(f"data.root={root}: a class is called {odd[0]!r}; a name is text in one line")
    return listing


def _ordered(names: set[str]) -> list[str]:
    """By number where all are numbers, else by name."""
    if all(name.isascii() and name.isdigit() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _from_folders(listing: Listing) -> None:
    root = listing.root
    if not root.is_dir():
        kinds = "a folder, or a .csv or .parquet file"
        raise bad_value("data.root", root, kinds if root.exists() else f"{kinds}; there is nothing of that name")
    folders = _folders(root)
    parts = [name for name in PARTS if name in folders]
    split = "train" in parts and bool(_folders(root / "train"))
    if split and len(parts) < len(folders):
        odd = next(name for name in folders if name not in parts)
        raise UserError(f"data.root={root}: {odd} lies beside train; there are either class folders, or train, val and test")
    for entry in os.scandir(root):
        if not entry.is_dir():
            listing.skipped[_kind(entry.name) or "image beside the class folders"] += 1
    if not folders:
        raise UserError(f"data.root={root}: no class folders in it: put the images of each class into a folder of its own")
    listing.given = tuple(parts) if split else ()
    for part in parts if split else [None]:
        above = root if part is None else root / part
        for folder in _folders(above):
            name = unicodedata.normalize("NFC", folder)
            listing.names.append(name)
            listing.files += [File(path, name, part) for path in _images(above / folder, listing.skipped)]
        if part is not None:
            loose = Counter(_kind(e.name) or "image beside the class folders" for e in os.scandir(above) if not e.is_dir())
            listing.skipped += loose


def _folders(folder: Path) -> list[str]:
    """The names of the folders in one, but for hidden ones and macOS's shadow of an archive."""
    return sorted(e.name for e in os.scandir(folder) if e.is_dir() and e.name[0] != "." and e.name != "__MACOSX")


def _images(folder: Path, skipped: Counter[str], above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """The images at any depth below ``folder``, through symbolic links, sorted; ``above``: the folders it is in, which a link
    may lead back to."""
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name[0] != "." and entry.name != "__MACOSX" and entry.is_dir():
            yield from _images(folder / entry.name, skipped, (*above, here))
        elif kind := _kind(entry.name):
            skipped[kind] += 1
        else:
            yield entry.path


def _kind(name: str) -> str:
    """What is told of a file that is no image by its name; nothing of one that is."""
    if name[0] == ".":
        return "hidden"
    end = Path(name).suffix.lower()
    return "" if end in ENDS else end or "without an end"


def _from_table(listing: Listing) -> None:
    root = listing.root
    rows = _csv_rows(root) if root.suffix.lower() == ".csv" else _parquet_rows(root)
    for number, row in enumerate(rows, 2):
        path, label, part = (_cell(row.get(key)) for key in ("path", "label", "split"))
        if not path or not label:
            raise UserError(f"data.root={root}: row {number} has no {'label' if path else 'path'}")
        if "split" in row and part not in PARTS:
            raise UserError(f"data.root={root}: row {number} has split={part or 'nothing'}; it is train, val or test")
        name = unicodedata.normalize("NFC", label)
        listing.files.append(File(str(root.parent / path), name, part or None))
    listing.given = tuple(part for part in PARTS if any(file.part == part for file in listing.files))
    if listing.given and "train" not in listing.given:
        raise UserError(f"data.root={root}: its column split has no train")


def _cell(value: Any) -> str:
    """A table's value as text: nothing for one that is missing, and whole numbers without a point."""
    if value is None or value != value:
        return ""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="")
            _check_columns(path, reader.fieldnames or ())
            return list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"data.root={path}: not a CSV file in UTF-8 ({error})") from None


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        raise UserError(f"data.root={path}: not a Parquet file ({str(error).splitlines()[0]})") from None
    _check_columns(path, table.column_names)
    return table.select([name for name in ("path", "label", "split") if name in table.column_names]).to_pylist()


def _check_columns(path: Path, names: Sequence[str]) -> None:
    absent = [name for name in ("path", "label") if name not in names]
    if absent:
        raise UserError(f"data.root={path}: has no column {absent[0]}, but {', '.join(map(str, names)) or 'none'}")
