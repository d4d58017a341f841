"""Who calls OpenAI in the demo: projects, their keys, and the features that use them."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """An API key. `traced`: the service that uses it has costspan's import."""

    id: str
    name: str
    secret: str
    project: str
    project_name: str
    owner: str
    service: str
    team: str
    traced: bool

    @property
    def hint(self) -> str:
        """The last four characters, all that OpenAI's key list shows."""
        return self.secret[-4:]

    @property
    def fingerprint(self) -> str:
        """What a span carries in place of the key."""
        return hashlib.sha256(self.secret.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Feature:
    """One use of one model, with the shape of its calls.

    A median and a sigma are those of a log-normal; `cached` is the mean cached share of a prompt
    long enough to be cached.
    """

    name: str
    key: str
    api: str
    model: str
    calls_per_day: float
    input_median: int
    output_median: int
    sigma: float = 0.5
    cached: float = 0.0
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class Organization:
    """One organization, as its owner sees it."""

    id: str
    slug: str
    admin_secret: str
    keys: tuple[Key, ...]
    features: tuple[Feature, ...]

    def key(self, name: str) -> Key:
        """Return the key called `name`."""
        return next(key for key in self.keys if key.name == name)

    def feature(self, name: str) -> Feature:
        """Return the feature called `name`."""
        return next(feature for feature in self.features if feature.name == name)


SERVED_AS = {
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-5.4-mini": "gpt-5.4-mini-2026-03-17",
    "gpt-5.5": "gpt-5.5-2026-04-23",
    "text-embedding-3-small": "text-embedding-3-small",
}
"""The snapshot that answers for a model's short name, and that the bill names."""

REASONING = frozenset({"gpt-5.4-mini", "gpt-5.5"})

NIGHTLY_FEATURE = "nightly-export"
"""The batch script that nobody traced: the only user of the key of the same name."""
BURST_FEATURE = "recommendations"
"""Fails in the last minutes of the history."""
BURST_NEIGHBOUR = "code-review"
"""Calls the same model meanwhile and is answered: it is the feature that fails, not the model."""
SPIKE_FEATURE = "agent"
"""One of its users sends very long prompts in the last hour of the history."""
LIVE_KEY = "support-desk"
"""The key of the app that runs while the demo does."""

_KEYS = (
    ("shop-backend", "Shop", "shop-backend", "storefront", True),
    ("support-desk", "Support", "support-desk", "support", True),
    ("agent-runner", "Platform", "agent-runner", "platform", True),
    ("nightly-export", "Platform", "nightly-export", "platform", False),
)

_FEATURES = (
    Feature("product-search", "shop-backend", "embeddings", "text-embedding-3-small", 240, 60, 0),
    Feature("product-copy", "shop-backend", "chat_completions", "gpt-4o-mini", 170, 950, 340),
    Feature(
        "recommendations", "shop-backend", "responses", "gpt-5.4-mini", 150, 1500, 320, cached=0.5
    ),
    Feature(
        "support-chat",
        "support-desk",
        "chat_completions",
        "gpt-4.1",
        250,
        2600,
        260,
        cached=0.6,
        streamed=True,
    ),
    Feature("ticket-triage", "support-desk", "responses", "gpt-4o-mini", 190, 700, 60),
    Feature("knowledge-search", "support-desk", "embeddings", "text-embedding-3-small", 110, 90, 0),
    Feature(
        "agent",
        "agent-runner",
        "responses",
        "gpt-5.5",
        85,
        8200,
        850,
        cached=0.7,
        streamed=True,
    ),
    Feature(
        "code-review", "agent-runner", "chat_completions", "gpt-5.4-mini", 70, 6100, 700, cached=0.3
    ),
    Feature(NIGHTLY_FEATURE, "nightly-export", "chat_completions", "gpt-4.1", 65, 5200, 900),
)


def organization(seed: int) -> Organization:
    """Return the organization of a seed. Its keys open nothing but the demo's own server."""

    def made(kind: str, name: str, length: int) -> str:
        return hashlib.sha256(f"costspan demo {seed} {kind} {name}".encode()).hexdigest()[:length]

    keys = tuple(
        Key(
            id=f"key_{made('key', name, 16)}",
            name=name,
            secret=f"sk-proj-{made('secret', name, 48)}",
            project=f"proj_{made('project', project, 24)}",
            project_name=project,
            owner=f"user-{made('owner', team, 24)}",
            service=service,
            team=team,
            traced=traced,
        )
        for name, project, service, team, traced in _KEYS
    )
    return Organization(
        id=f"org-{made('organization', '', 24)}",
        slug="costspan-demo",
        admin_secret=f"sk-admin-{made('admin', '', 48)}",
        keys=keys,
        features=_FEATURES,
    )
