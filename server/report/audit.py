"""The audit section of the report: the attacks, their findings, and the limits of these findings."""

import hashlib

from common.canonical import canonical
from common.report.formatting import format_count, format_epsilon, format_value
from common.report.html import Child, Html, join, table, tag
from common.report.records import AuditResult, InversionResult, MemorisationResult
from server.report.run_files import RunFiles

__all__ = ["audit_section"]


def audit_section(run: RunFiles) -> Html:
    """Return the section. It is empty if the run was not audited."""
    audit = run.audit
    if audit is None:
        return Html("")
    return join(
        tag("h2", "What an attacker finds", id="audit"),
        _verdict(run, audit),
        tag("h3", "Canaries"),
        tag("p", _canaries(audit)),
        tag("p", _limits_of_bound(audit), class_="note"),
        tag("h3", "The mechanism as it ran"),
        _checks(audit),
        tag("h3", "Reading text back"),
        _inversion(audit.inversion),
        None if audit.memorisation is None else _memorisation(audit.memorisation),
    )


def _verdict(run: RunFiles, audit: AuditResult) -> Html:
    parts: list[Html] = []
    if audit.planted:
        parts.append(
            tag(
                "p",
                tag("strong", f"Noise multiplier {format_value(audit.noise_multiplier)} was planted, in place of "),
                tag("strong", f"{format_value(audit.claimed_noise_multiplier)}, to see that the audit notices."),
            )
        )
    if audit.failed:
        parts.append(tag("p", tag("strong", f"Refuted: {', '.join(audit.failed)}.", class_="refused")))
    elif not audit.planted:
        parts.append(tag("p", "No attack refuted what the run claims."))
    if run.config and hashlib.sha256(canonical(dict(run.config))).hexdigest() != audit.config_digest:
        parts.append(
            tag("p", tag("strong", "It was made for another configuration than this run's."), class_="refused")
        )
    return join(*parts)


def _canaries(audit: AuditResult) -> str:
    unit = audit.unit or "record"
    return (
        f"{format_count(audit.canaries)} canaries ({unit}s whose gradient is one coordinate of the adapter), each put "
        f"into the training by a fair coin. An attacker who sees the model after every one of "
        f"{format_count(audit.steps)} steps, and knows everything but coins, batches and noise, guessed "
        f"{format_count(audit.guesses)} of the coins, {format_count(audit.right_guesses)} of them right. "
        f"So, with confidence {format_value(audit.confidence)}, ε is at least {audit.lower_bound:.2f}; claimed is "
        f"{format_epsilon(audit.claimed_epsilon)}, both at δ = {format_value(audit.delta)} for one {unit}."
    )


def _limits_of_bound(audit: AuditResult) -> str:
    return (
        "A lower bound is what this one attack could show, not the guarantee: the guarantee is the accountant's ε, and "
        "a low bound proves nothing. So few canaries could not have shown more than "
        f"{audit.largest_possible_bound:.2f}, and the attack would hardly see noise that a bug has halved; the "
        "checks below would."
    )


def _checks(audit: AuditResult) -> Html:
    rows: list[list[Child]] = [
        [
            check.quantity,
            format_value(check.measured),
            format_value(check.stated),
            "fails" if check.name in audit.failed else "holds",
        ]
        for check in audit.checks
    ]
    caption = "The training loop itself, run on random tokens: what came out of it against what the accountant assumes."
    return table(["Quantity", "Measured", "Stated", ""], rows, caption)


def _memorisation(found: MemorisationResult) -> Html:
    trained = format_count(found.included)
    words = (
        f"{format_count(found.canaries)} canary sentences, prompts with a secret of random tokens, of which {trained} "
        f"were trained on by the run's own training. Greedy decoding wrote {format_count(found.plain)} of these "
        f"{trained} secrets if nothing protected them, and {format_count(found.private)} with the run's noise. Their "
        f"mean exposure is {found.plain_bits:.1f} and {found.private_bits:.1f} bits, of {found.most_bits:.0f} at most, "
        f"and {found.absent_bits:.1f} for secrets that were not trained on. {format_count(found.right_guesses)} of "
        f"{format_count(found.guesses)} guesses about which sentences were trained on were right: ε is at least "
        f"{found.lower_bound:.2f}."
    )
    return join(tag("h3", "Secrets that come out"), tag("p", words))


def _inversion(inversion: InversionResult) -> Html:
    tokens = format_count(inversion.tokens)
    words = (
        f"One training step on one sentence, first layer, LoRA of rank {format_count(inversion.rank)}: from the "
        f"update alone "
        f"the attacker read {format_count(inversion.plain)} of {tokens} tokens if nothing protected it, "
        f"{format_count(inversion.clipped)} if it was clipped, and {format_count(inversion.private)} through "
        f"clipping and noise; "
        f"blind guessing finds {format_value(inversion.chance)}."
    )
    example = None
    if len(inversion.example) == 3:
        sentence, read, noised = inversion.example
        example = table(
            ["Sentence", "Read from the plain update", "Read through the noise"], [[sentence, read, noised]], words=3
        )
    return join(tag("p", words), example)
