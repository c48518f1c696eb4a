"""A federation whose gateway and one of its institutions use certificates of authorities outside of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from client.institution.directory import InstitutionDirectory
from tests.e2e.deployed import Hub, command, run_toml, until
from tests.outside_authority import OutsideAuthority

HUBS, BANK = OutsideAuthority("hub operator"), OutsideAuthority("bank")


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def with_own_authority(hub: Hub, name: str) -> None:
    """Have an enrolled institution's certificate replaced by one of `BANK`, as docs/operations.md says."""
    home = InstitutionDirectory(hub.institutions[name].directory)
    chain = written(home.directory.with_suffix(".pem"), BANK.issue(home.csr_path.read_text()))
    request = command("fedfin-institution", "certificate", chain, "--home", home.directory)
    given = ("--fingerprint", request["fingerprint"], "--home", hub.directory)
    refused = command("fedfin-hub", "approve", home.request_path, *given, code=2)
    assert "--own-authority" in refused["error"]
    package = command("fedfin-hub", "approve", home.request_path, "--own-authority", *given)
    join = (package["package"], "--fingerprint", package["fingerprint"], "--home", home.directory)
    command("fedfin-institution", "join", *join)


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("outside")
    hub = Hub.create(root)
    certs = ("certs", "--home", hub.directory)
    try:
        command("fedfin-hub", *certs, "--trust", written(root / "root.pem", HUBS.root))
        for name in ("north", "south"):
            hub.enrol(name)
        with_own_authority(hub, "north")
        command("fedfin-hub", *certs, "--request", root / "server.csr")
        issued = HUBS.issue((root / "server.csr").read_text(), purpose=ExtendedKeyUsageOID.SERVER_AUTH, up_to="issuing")
        command("fedfin-hub", *certs, "--install", written(root / "server.pem", issued))
        hub.start()
        hub.start_institutions()
        yield hub
    finally:
        hub.stop()


def test_both_kinds_of_member_take_part_and_a_renewal_needs_no_hub(outside: Hub) -> None:
    hub = outside
    text = run_toml(hub.directory.parent / "base")
    run = hub.run(text=text)
    assert run.ended() == "finished", run.file("outcome.json")
    assert run.outcomes(2) == {"north": "contributed", "south": "contributed"}
    north = hub.institutions["north"]
    home = InstitutionDirectory(north.directory)
    renewed = written(hub.directory.parent / "renewed.pem", BANK.issue(home.csr_path.read_text(), days=60))
    command("fedfin-institution", "certificate", renewed, "--home", home.directory)
    assert (home.tls / "client.pem").read_text() == renewed.read_text()
    north.started.stop()
    hub.start_institutions(["north"])
    again = hub.run(name="renewed", text=text)
    assert again.ended() == "finished", again.file("outcome.json")
    assert again.outcomes(2)["north"] == "contributed"


def test_a_revocation_ends_the_certificates_of_the_institutions_own_authority(outside: Hub) -> None:
    command("fedfin-hub", "revoke", "north", "--home", outside.directory)
    until(lambda: outside.connected() == {"south"}, "the gateway lets north in no more", within=120)
