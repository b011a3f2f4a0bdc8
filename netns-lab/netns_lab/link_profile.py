# SPDX-License-Identifier: Apache-2.0
"""What a link does to frames, in netem's terms (tc-netem(8)): delay, jitter, loss, duplicate, corrupt, reorder, rate,
limit.

A profile is data only. `link_emulator` acts on it in user space, `netem_arguments` says it to `tc`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from netns_lab.errors import LabError
from netns_lab.toml_table import TomlTable, read_toml
from netns_lab.units import show_duration, show_rate, show_share

LIMIT_DEFAULT_FRAMES: Final = 1000
LIMIT_MAX_FRAMES: Final = 100_000
DELAY_MAX_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class RandomLoss:
    """Each frame is lost with the same probability, whatever happened before."""

    probability: float

    def expected(self) -> float:
        """Share of frames lost in the long run."""
        return self.probability


@dataclass(frozen=True, slots=True)
class GilbertElliott:
    """Losses in bursts: a two-state Markov chain, stepped once per frame (netem's `loss gemodel`)."""

    p: float
    """Probability to go from the good state to the bad one."""
    r: float
    """Probability to go back; mean length of a bad spell is 1/r frames."""
    loss_bad: float = 1.0
    """Loss in the bad state, `1-h`."""
    loss_good: float = 0.0
    """Loss in the good state, `1-k`."""

    def bad_share(self) -> float:
        """Share of frames that meet the bad state: the chain's stationary probability p/(p+r)."""
        return self.p / (self.p + self.r) if self.p else 0.0

    def expected(self) -> float:
        """Share of frames lost in the long run."""
        bad = self.bad_share()
        return bad * self.loss_bad + (1.0 - bad) * self.loss_good


@dataclass(frozen=True, slots=True)
class TimedBursts:
    """Losses in bursts: the same two states, but each lasts an exponential time, however few frames pass.

    A path that fades does so by the clock. Stepped per frame, a chain of 200 ms at full rate lasts half a minute on a
    return channel with a frame a second. netem has nothing like it.
    """

    mean_s: float
    """Mean length of a bad spell, in which every frame is lost."""
    share: float
    """Of the time that is bad."""

    def expected(self) -> float:
        """Share of frames lost in the long run, where frames come evenly."""
        return self.share


Loss = RandomLoss | GilbertElliott | TimedBursts

_LOSS_NAMES: Final = {RandomLoss: "random", GilbertElliott: "Gilbert-Elliott", TimedBursts: "bursts by time"}


@dataclass(frozen=True, slots=True)
class LinkProfile:
    """One direction of a link."""

    name: str
    description: str = ""
    delay_s: float = 0.0
    """One way."""
    jitter_s: float = 0.0
    """Uniform, plus or minus; order is kept."""
    loss: Loss | None = None
    duplicate: float = 0.0
    corrupt: float = 0.0
    """Probability that one bit of the frame flips."""
    reorder: float = 0.0
    """Probability that a frame overtakes those that wait."""
    gap: int = 1
    """Only each `gap`-th frame may overtake."""
    rate_bps: int | None = None
    """Of Ethernet frames as the device sees them, without preamble and FCS."""
    limit: int = LIMIT_DEFAULT_FRAMES
    """Frames held at once, those under way included."""
    loss_after_rate: bool = False
    """What is lost takes air time, as it does on a radio path; netem loses frames before its rate."""

    def expected_loss(self) -> float:
        """Share of frames lost in the long run."""
        return self.loss.expected() if self.loss else 0.0

    def summary(self) -> str:
        """One line for people."""
        parts = [show_duration(self.delay_s) + (f" +- {show_duration(self.jitter_s)}" if self.jitter_s else "")]
        parts.append(show_rate(self.rate_bps) if self.rate_bps else "unlimited rate")
        if self.loss is not None:
            parts.append(f"{self.loss.expected() * 100:.3g} % loss ({_LOSS_NAMES[type(self.loss)]})")
        for word, share in (("duplicate", self.duplicate), ("corrupt", self.corrupt), ("reorder", self.reorder)):
            if share:
                parts.append(f"{word} {show_share(share)}")
        return ", ".join(parts)


def parse_profile(name: str, table: TomlTable) -> LinkProfile:
    """A profile from its table; LabError names file and key."""
    profile = LinkProfile(
        name=name,
        description=table.text("description", ""),
        delay_s=table.duration("delay", 0.0),
        jitter_s=table.duration("jitter", 0.0),
        loss=_parse_loss(table),
        duplicate=table.share("duplicate", 0.0),
        corrupt=table.share("corrupt", 0.0),
        reorder=table.share("reorder", 0.0),
        gap=table.count("gap", 1, 1, 1_000_000),
        rate_bps=table.rate("rate"),
        limit=table.count("limit", LIMIT_DEFAULT_FRAMES, 1, LIMIT_MAX_FRAMES),
        loss_after_rate=table.flag("loss_after_rate", False),
    )
    table.end()
    if profile.delay_s > DELAY_MAX_S:
        raise table.error("delay", f"is above {DELAY_MAX_S:g} s")
    if profile.jitter_s > profile.delay_s:
        raise table.error("jitter", "is above the delay: a frame would arrive before it was sent")
    if profile.reorder and not profile.delay_s:
        raise table.error("reorder", "needs a delay: a frame overtakes those that wait")
    return profile


def _parse_loss(table: TomlTable) -> Loss | None:
    if not table.has("loss"):
        return None
    loss = table.table("loss")
    model = loss.text("model")
    result: Loss
    if model == "random":
        result = RandomLoss(_needed(loss, "probability"))
    elif model == "gemodel":
        p = _needed(loss, "p")
        result = GilbertElliott(p, loss.share("r", 1.0 - p), loss.share("1-h", 1.0), loss.share("1-k", 0.0))
    elif model == "bursts":
        result = TimedBursts(loss.duration("mean", 0.0), _needed(loss, "share"))
        if result.mean_s <= 0 or result.share >= 1:
            raise loss.error("mean", "and share: a spell needs a duration, and some of the time has to be good")
    else:
        raise loss.error("model", f"unknown model {model!r}; known: random, gemodel, bursts")
    loss.end()
    return result


def _needed(table: TomlTable, key: str) -> float:
    if not table.has(key):
        raise table.error(key, "is missing")
    return table.share(key, 0.0)


def profile_to_table(profile: LinkProfile) -> dict[str, object]:
    """What `parse_profile` reads: how a profile travels to the relay process."""
    table: dict[str, object] = {
        "description": profile.description,
        "delay": show_duration(profile.delay_s),
        "jitter": show_duration(profile.jitter_s),
        "loss_after_rate": profile.loss_after_rate,
        "duplicate": show_share(profile.duplicate),
        "corrupt": show_share(profile.corrupt),
        "reorder": show_share(profile.reorder),
        "gap": profile.gap,
        "limit": profile.limit,
    }
    if profile.rate_bps is not None:
        table["rate"] = f"{profile.rate_bps} bit/s"
    match profile.loss:
        case RandomLoss(probability):
            table["loss"] = {"model": "random", "probability": show_share(probability)}
        case GilbertElliott(p, r, bad, good):
            shares = {"p": p, "r": r, "1-h": bad, "1-k": good}
            table["loss"] = {"model": "gemodel"} | {key: show_share(share) for key, share in shares.items()}
        case TimedBursts(mean_s, share):
            table["loss"] = {"model": "bursts", "mean": show_duration(mean_s), "share": show_share(share)}
        case None:
            pass
    return table


def load_profile(name: str, folder: Path) -> LinkProfile:
    """The profile `name` from `folder/name.toml`; LabError lists the known ones when there is none."""
    path = folder / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.toml"))) or "none"
        raise LabError(f"link profile {name!r} is unknown; known: {known} (in {folder})")
    return parse_profile(name, read_toml(path))
