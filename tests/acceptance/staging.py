"""Tenants for real clients: whoever may ask for a recording, with the provider that plays it.

Not here: the gateway itself and pairs of providers (`gateway`), and which recordings are tried (`cells`).
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from gateway import STAGED, Gateway, Workspace
from recorded import recording
from recorded.wires import Placement, wire_of
from replay import Replay


@dataclass
class Stage:
    """A replay that plays every provider, a tenant that has the staged ones, and one for each credential that a recording
    needs."""

    gateway: Gateway
    name: str
    replay: Replay
    workspace: Workspace
    others: dict[Placement, Workspace] = field(default_factory=dict)

    def tenant(self, identity: str) -> Workspace:
        """Who can ask for this recording. A failure must not weigh on anybody's next request, so it gets one of its own."""
        played = recording.load(identity)
        placement = wire_of(played).placement(played)
        if played.status == 200 and placement in self.others:
            return self.others[placement]
        made = self.gateway.workspace(f"{self.name} {identity}", [credential(placement, self.replay.root)])
        return self.others.setdefault(placement, made) if played.status == 200 else made

    def play(self, identity: str, **item: Any) -> Workspace:
        """Plays a recording, and gives the tenant that can ask for it."""
        self.replay.play({"id": identity, **item})
        return self.tenant(identity)


def credential(placement: Placement, root: str) -> dict[str, Any]:
    """The credential for a provider that is played at this address."""
    made: dict[str, Any] = {"provider": placement.provider, "base_url": root + placement.base_path}
    made["options"] = json.loads(placement.options)
    return {**made, "api_key": None} if placement.is_signed else made


def stage(gateway: Gateway, name: str, resources: ExitStack, seed: int = 0) -> Stage:
    """Builds a stage that lives as long as `resources`."""
    replay = resources.enter_context(Replay(seed))
    credentials = [{"provider": provider, "base_url": replay.base_url(provider)} for provider in STAGED]
    return Stage(gateway, name, replay, gateway.workspace(name, credentials))
