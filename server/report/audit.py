"""The report's audit part: what was attacked, what came out, and what that cannot show."""

import hashlib
from collections.abc import Mapping
from typing import Any

from common.canonical import canonical
from common.report.formatting import count, epsilon, plain
from common.report.html import Child, Html, join, table, tag
from server.report.run_files import RunFiles

__all__ = ["audited"]


def audited(run: RunFiles) -> Html:
    """Empty where the run was not audited."""
    found = run.audit
    if found is None:
        return Html("")
    return join(
        tag("h2", "What an attacker finds", id="audit"),
        _verdict(run, found),
        tag("h3", "Canaries"),
        tag("p", _canaries(found)),
        tag("p", _what_a_bound_is(found), class_="note"),
        tag("h3", "The mechanism as it ran"),
        _checks(found),
        tag("h3", "Reading text back"),
        _inversion(found["inversion"]),
    )


def _verdict(run: RunFiles, found: Mapping[str, Any]) -> Html:
    parts: list[Html] = []
    if found["planted"]:
        parts.append(
            tag(
                "p",
                tag("strong", f"Noise multiplier {plain(found['noise_multiplier'])} was planted, in place of "),
                tag("strong", f"{plain(found['claimed_noise_multiplier'])}, to see that the audit notices."),
            )
        )
    if found["failed"]:
        parts.append(tag("p", tag("strong", f"Refuted: {', '.join(found['failed'])}.", class_="refused")))
    elif not found["planted"]:
        parts.append(tag("p", "No attack refuted what the run claims."))
    if run.config and hashlib.sha256(canonical(dict(run.config))).hexdigest() != found["config_digest"]:
        parts.append(
            tag("p", tag("strong", "It was made for another configuration than this run's."), class_="refused")
        )
    return join(*parts)


def _canaries(found: Mapping[str, Any]) -> str:
    unit = found["unit"] or "record"
    return (
        f"{count(found['canaries'])} {unit}s of random tokens, each put into the training by a fair coin. An attacker "
        f"who sees the model after every one of {count(found['steps'])} steps, and knows everything but coins, batches "
        f"and noise, guessed {count(found['guesses'])} of the coins, {count(found['right_guesses'])} of them right. "
        f"So, with confidence {plain(found['confidence'])}, ε is at least {found['lower_bound']:.2f}; claimed is "
        f"{epsilon(found['claimed_epsilon'])}, both at δ = {plain(found['delta'])} for one {unit}."
    )


def _what_a_bound_is(found: Mapping[str, Any]) -> str:
    return (
        "A lower bound is what this one attack could show, not the guarantee: the guarantee is the accountant's ε, and "
        "a low bound proves nothing. So few canaries could not have shown more than "
        f"{found['largest_possible_bound']:.2f}, and the attack would hardly see noise that a bug has halved; the "
        "checks below would."
    )


def _checks(found: Mapping[str, Any]) -> Html:
    rows: list[list[Child]] = [
        [
            each["what"],
            plain(each["measured"]),
            plain(each["stated"]),
            "fails" if each["name"] in found["failed"] else "holds",
        ]
        for each in found["checks"]
    ]
    caption = "The training loop itself, run on random tokens: what came out of it against what the accountant assumes."
    return table(["What", "Measured", "Stated", ""], rows, caption)


def _inversion(found: Mapping[str, Any]) -> Html:
    tokens = count(found["tokens"])
    words = (
        f"One training step on one sentence, first layer, LoRA of rank {count(found['rank'])}: from the update alone "
        f"the attacker read {count(found['plain'])} of {tokens} tokens where nothing protected it, "
        f"{count(found['clipped'])} where it was clipped, and {count(found['private'])} through clipping and noise; "
        f"blind guessing finds {plain(found['chance'])}."
    )
    example = None
    if len(found["example"]) == 3:
        sentence, read, noised = found["example"]
        example = table(
            ["Sentence", "Read from the plain update", "Read through the noise"], [[sentence, read, noised]], words=3
        )
    return join(tag("p", words), example)
