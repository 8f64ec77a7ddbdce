"""What a TFLite file tells of its input and outputs, as MediaPipe and Android's ImageClassifier read it: the metadata entry
``TFLITE_METADATA`` (schema ``M001``), and the classes' names as a file ``labels.txt`` in a zip behind the model."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence

import flatbuffers
import numpy as np

from spaceevo.deploy.file_input import FileInput

METADATA = "TFLITE_METADATA"
LABEL_FILE = "labels.txt"
IDENTIFIER, PARSER = b"M001", "1.0.0"
# Of the schema (metadata_schema.fbs): members of its enumerations and unions
IMAGE_PROPERTIES, FEATURE_PROPERTIES, NORMALIZATION, AXIS_LABELS = 2, 1, 1, 2
COLOUR_SPACES = {"RGB": 1, "grey": 2}


def described(given: FileInput, outputs: int, labels: Sequence[str]) -> bytes:
    """The content of the entry of a file that takes ``given`` and has so many ``outputs``, the first one with ``labels``."""
    b = flatbuffers.Builder(1024)
    first = [_output(b, labels)]
    tensors = first + [_table(b, name=b.CreateString("logits")) for _ in range(outputs - 1)]
    graph = _table(b, inputs=_vector(b, [_input(b, given)]), outputs=_vector(b, tensors))
    model = _table(
        b,
        name=b.CreateString("spaceevo"),
        description=b.CreateString("; ".join(f"{key}: {value}" for key, value in given.words("NHWC").items())),
        subgraphs=_vector(b, [graph]),
        min_parser_version=b.CreateString(PARSER),
    )
    b.Finish(model, IDENTIFIER)
    return bytes(b.Output())


def with_labels(file: bytes, labels: Sequence[str]) -> bytes:
    """The model ``file`` with its classes' names, one a line, in a zip behind it; the same bytes every time."""
    if not labels:
        return file
    held = io.BytesIO(file)
    with zipfile.ZipFile(held, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(LABEL_FILE), "\n".join(labels))
    return held.getvalue()


#: Where a table's field is in the schema, by the names used here; ``inputs`` and ``outputs`` are a SubGraphMetadata's.
SLOTS = dict(name=0, description=1, inputs=2, outputs=3, subgraphs=3, content=3, units=4, stats=5, files=6)
SLOTS |= dict(min_parser_version=7)


def _table(b: flatbuffers.Builder, **fields: int) -> int:
    """A ModelMetadata, SubGraphMetadata, TensorMetadata or AssociatedFile of offsets."""
    b.StartObject(8)
    for name, offset in fields.items():
        b.PrependUOffsetTRelativeSlot(SLOTS[name], offset, 0)
    return int(b.EndObject())


def _input(b: flatbuffers.Builder, given: FileInput) -> int:
    b.StartObject(2)  # ImageSize
    b.PrependUint32Slot(0, given.hw, 0)
    b.PrependUint32Slot(1, given.hw, 0)
    size = b.EndObject()
    b.StartObject(2)  # ImageProperties
    b.PrependInt8Slot(0, COLOUR_SPACES.get(given.colour, 0), 0)
    b.PrependUOffsetTRelativeSlot(1, size, 0)
    properties = b.EndObject()
    scales = ([0.0], [1.0]) if given.pixels else ([255 * m for m in given.mean], [255 * s for s in given.std])
    mean, std = (b.CreateNumpyVector(np.array(values, np.float32)) for values in scales)
    b.StartObject(2)  # NormalizationOptions
    b.PrependUOffsetTRelativeSlot(0, mean, 0)
    b.PrependUOffsetTRelativeSlot(1, std, 0)
    unit = _union(b, NORMALIZATION, b.EndObject())
    content, units = _union(b, IMAGE_PROPERTIES, properties), _vector(b, [unit])
    name, description = b.CreateString("image"), b.CreateString(given.words("NHWC")["input.values"])
    return _table(b, name=name, description=description, content=content, units=units, stats=_stats(b, given))


def _stats(b: flatbuffers.Builder, given: FileInput) -> int:
    """The greatest and the least value of the input."""
    pairs = list(zip(given.mean, given.std, strict=True))
    ends = ([255.0], [0.0]) if given.pixels else ([(1 - m) / s for m, s in pairs], [-m / s for m, s in pairs])
    most, least = (b.CreateNumpyVector(np.array(values, np.float32)) for values in ends)
    b.StartObject(2)
    b.PrependUOffsetTRelativeSlot(0, most, 0)
    b.PrependUOffsetTRelativeSlot(1, least, 0)
    return int(b.EndObject())


def _output(b: flatbuffers.Builder, labels: Sequence[str]) -> int:
    b.StartObject(0)
    content = _union(b, FEATURE_PROPERTIES, b.EndObject())
    name = b.CreateString("score")
    if not labels:
        return _table(b, name=name, content=content)
    path, description = b.CreateString(LABEL_FILE), b.CreateString("the classes' names, in the order of the scores")
    b.StartObject(5)  # AssociatedFile
    b.PrependUOffsetTRelativeSlot(0, path, 0)
    b.PrependUOffsetTRelativeSlot(1, description, 0)
    b.PrependInt8Slot(2, AXIS_LABELS, 0)
    return _table(b, name=name, content=content, files=_vector(b, [b.EndObject()]))


def _union(b: flatbuffers.Builder, kind: int, member: int) -> int:
    """A table whose first two fields are a union: Content, ProcessUnit."""
    b.StartObject(3)
    b.PrependUint8Slot(0, kind, 0)
    b.PrependUOffsetTRelativeSlot(1, member, 0)
    return int(b.EndObject())


def _vector(b: flatbuffers.Builder, tables: Sequence[int]) -> int:
    b.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        b.PrependUOffsetTRelative(table)
    return int(b.EndVector())
