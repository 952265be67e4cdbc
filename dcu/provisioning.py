"""Identity, keys and addresses of a concentrator, as the maintenance interface leaves them in its storage."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from dcu.config_file import Provisioning, load
from dcu.storage import Storage
from protocols.errors import BadInputError

_RECORD = "provisioning"
_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_CONFIG = "dcu.json"


class ProvisioningStore:
    """One record in flash. `workspace` is a folder in RAM for the files that the TLS library reads by name."""

    def __init__(self, storage: Storage, workspace: Path) -> None:
        self._storage = storage
        self._workspace = workspace

    def load(self) -> Provisioning | None:
        """None before the first provisioning. Raises BadInputError if the record cannot be used."""
        record = self._storage.read(_RECORD)
        if record is None:
            return None
        try:
            content = json.loads(record)
            return self._materialize(content["config"], content["files"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadInputError("the stored provisioning is damaged; provision again") from error

    def save(self, config: Any, files: Any) -> Provisioning:
        """Check and keep a configuration. Raises BadInputError, and keeps the old one, if it cannot be used."""
        if not isinstance(files, dict) or not all(isinstance(text, str) for text in files.values()):
            raise BadInputError("must be an object of texts", key="files")
        for name in files:
            if _FILE_NAME.fullmatch(name) is None or name == _CONFIG:
                raise BadInputError("has a name that no file may have", key="files")
        found = self._materialize(config, files)
        self._storage.write(_RECORD, json.dumps({"config": config, "files": files}).encode())
        return found

    def forget(self) -> None:
        """Remove identity and keys, from flash and from RAM."""
        self._storage.delete(_RECORD)
        for path in sorted(self._workspace.glob("*")):
            path.unlink()

    def _materialize(self, config: Any, files: dict[str, str]) -> Provisioning:
        try:
            self._workspace.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name, text in {**files, _CONFIG: json.dumps(config)}.items():
                path = self._workspace / name
                path.touch(mode=0o600)
                path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise BadInputError(f"cannot be written: {error.strerror}", file=str(self._workspace)) from error
        return load(self._workspace / _CONFIG)
