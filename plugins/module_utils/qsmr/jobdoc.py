"""The job document: what the job service is told about one scan (Odin API contract, section 1)."""

from __future__ import annotations

import hashlib
import json

from .errors import QsmrError
from .settings import Settings
from .target import encoder, plaintext

VERSIONS = ("v4", "v5")
# Limits of the job service (REST contract v4, section 8).
LONGEST_URL = 512
LONGEST_ID = 64


class JobMaker:
    """Makes job documents. The same scan always gives the same document, to the letter."""

    def __init__(self, settings: Settings, odin_project: str, version: str = "v4", cipher: str = "ecb") -> None:
        """``version`` and ``cipher`` are those of the Odin API that level 2 goes to; QsmrError if they can't be."""
        if version not in VERSIONS:
            raise QsmrError(f'There is no target version "{version}": choose {" or ".join(VERSIONS)}')
        self._root = settings.odin_api_root
        self._version = version
        self._project = odin_project
        self._cipher = cipher
        self._encode = encoder(settings.odin_secret, cipher)

    @property
    def digest(self) -> str:
        """Differs for makers whose documents differ: the digest of one document stands for them all."""
        return hashlib.sha256(json.dumps(self(1, 1), sort_keys=True).encode()).hexdigest()

    @property
    def has_python2_form(self) -> bool:
        """Whether the Python 2 scripts gave other tokens: their JSON had another key order, and ECB shows that."""
        return self._cipher == "ecb"

    @property
    def has_random_targets(self) -> bool:
        """Whether other programs make a target that is never the same twice, and the rest shows the Odin project."""
        return self._cipher == "eax" and self._version != "v4"

    def __call__(self, freq_mode: int, scan_id: int, python2_order: bool = False) -> dict[str, str]:
        """The document of a scan, with the token as the Python 3 or as the Python 2 scripts made it."""
        token = self._encode(plaintext(scan_id, freq_mode, self._project, python2_order))
        document = {
            "id": f"{freq_mode}:{scan_id}",
            "type": "qsmr",
            # v5, too, reads its level 1 log from v4.
            "source_url": self.source_url(freq_mode, scan_id),
            "target_url": f"{self._root}/{self._version}/level2?d={token}",
        }
        if view := self.view_result_url(freq_mode, scan_id):
            document["view_result_url"] = view
        return document

    def source_url(self, freq_mode: int, scan_id: int) -> str:
        """Where a worker reads the scan's level 1 log."""
        return f"{self._root}/v4/l1_log/{freq_mode}/{scan_id}/"

    def view_result_url(self, freq_mode: int, scan_id: int) -> str | None:
        """Where people read the result; v4 jobs don't say."""
        if self._version == "v4":
            return None
        return f"{self._root}/v5/level2/development/{self._project}/{freq_mode}/{scan_id}"

    def check_lengths(self, freq_mode: int, scan_id: int) -> None:
        """QsmrError if the document has a field that is too long for the job service: it would not say which."""
        document = self(freq_mode, scan_id)
        for name, value in document.items():
            longest = LONGEST_URL if name.endswith("_url") else LONGEST_ID
            if len(value) > longest:
                raise QsmrError(
                    f"The {name} of job {document['id']} has {len(value)} characters, the job service takes {longest}:"
                    " ODIN_API_ROOT or the Odin project's name is too long"
                )
