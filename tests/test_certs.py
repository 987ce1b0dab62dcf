"""`plantwright certs`: what a person sees of certificates and decides about them."""

from __future__ import annotations

import getpass
import json
from datetime import timedelta
from pathlib import Path

import pytest
from command_line import CommandLine, clear_environment
from made_certificates import server_pair

from connectors.security import Secrets, TrustStore
from connectors.security.certificates import fingerprint
from dashboard.settings import Settings
from twin.errors import SecurityFault
from twin.historian import Historian
from twin.plant import read_plant


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder of a fresh installation."""
    clear_environment(monkeypatch, {"PLANTWRIGHT_STATE_DIR": str(tmp_path / "state")})
    return tmp_path / "state"


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line."""
    return CommandLine(monkeypatch, capsys)


def test_a_fresh_installation_has_none_and_says_so(call: CommandLine, state: Path) -> None:
    """Nothing is made by looking."""
    answer = call("certs", "list")
    assert answer.code == 0
    assert "No certificates" in answer.out
    assert call("certs", "list", "--json").record["certificates"] == []
    assert not (state / "pki").exists()


def test_our_own_are_made_to_be_handed_to_an_administrator(call: CommandLine, state: Path) -> None:
    """A file per identity, with all that a server shows of it; the same at every call."""
    first = call("certs", "own", "--json").record["certificates"]
    assert [each["state"] for each in first] == ["own collect", "own write"]
    for each in first:
        assert Path(each["file"]).is_file()
        assert each["application_uri"].startswith("urn:")
        assert each["days_left"] > 1_000
    assert call("certs", "own", "--json").record["certificates"] == first
    listed = call("certs", "list").out
    assert all(each["fingerprint"] in listed for each in first)
    assert "PRIVATE" not in listed


def test_a_rejected_certificate_is_accepted_and_revoked(call: CommandLine, state: Path) -> None:
    """By the first digits of its fingerprint; the list tells where each one stands."""
    pair = server_pair(ends=timedelta(days=10))
    digits = fingerprint(pair.certificate)
    TrustStore(state / "pki").reject(pair.certificate)
    (rejected,) = call("certs", "list", "--json").record["certificates"]
    assert (rejected["state"], rejected["fingerprint"]) == ("rejected", digits)
    assert "WARNING: it expires on" in call("certs", "list").out
    assert call("certs", "accept", digits[:8]).code == 0
    assert call("certs", "list").out.startswith("trusted: CN=Test server, urn:test:server")
    assert call("certs", "revoke", digits, "--json").record["state"] == "revoked"
    assert [each["state"] for each in call("certs", "list", "--json").record["certificates"]] == [
        "revoked"
    ]


@pytest.mark.parametrize("verb", ["accept", "revoke"])
@pytest.mark.parametrize("digits", ["", "abc", "00000000", "0" * 64, "../trust", "\x1b[2J"])
def test_a_fingerprint_of_nothing_is_a_wrong_call(
    call: CommandLine, state: Path, verb: str, digits: str
) -> None:
    """Exit code 2, what is wrong and where to look; nothing changes."""
    TrustStore(state / "pki").reject(server_pair().certificate)
    answer = call("certs", verb, digits)
    assert answer.code == 2
    assert "certs list" in answer.err
    assert "\x1b" not in answer.err
    assert call("certs", verb, digits, "--json").record["error"] == "UsageError"
    assert (state / "pki" / "trusted").exists() is False


def test_who_accepts_and_who_revokes_is_in_the_audit_of_every_plant_here(
    call: CommandLine, state: Path
) -> None:
    """The store is one for all of them; without a database that is said, and trust changes."""
    pair = server_pair()
    digits = fingerprint(pair.certificate)
    TrustStore(state / "pki").reject(pair.certificate)
    assert "In no audit yet" in call("certs", "accept", digits).out
    for plant in ("four_tank", "furnace"):
        with Historian.create(f"sqlite:///{state / plant}.db") as historian:
            historian.register(read_plant(plant))
    (state / "odd.db").write_bytes(b"no database")
    told = call("certs", "revoke", digits[:8], "--by", "A. Meier", "--json")
    assert (told.code, told.record["audit_of"]) == (0, ["four_tank", "furnace"])
    assert "odd.db" in told.record["audit_troubles"][0]
    assert call("certs", "accept", digits).code == 0
    for plant in ("four_tank", "furnace"):
        with Historian.open(f"sqlite:///{state / plant}.db") as historian:
            accepted, revoked = historian.events(plant, kind="trust")
        assert (revoked.subject, revoked.by) == (digits, "A. Meier")
        assert revoked.message.startswith("revoked CN=Test server, urn:test:server")
        assert accepted.message.startswith("accepted CN=Test server")
        assert accepted.by == getpass.getuser()
    refused = call("certs", "revoke", digits, "--by", " ")
    assert (refused.code, "says nothing" in refused.err) == (2, True)


def test_a_damaged_file_hides_no_other(call: CommandLine, state: Path) -> None:
    """The good are shown, the bad named with why and what to do; exit code 1: the store is wrong.

    Nor does it keep a person from revoking or accepting what can be read.
    """
    TrustStore(state / "pki").reject(server_pair().certificate)
    call("certs", "own")
    (state / "pki" / "own" / "write" / "key.pem").chmod(0o644)
    bad = ("trusted/plc.der", "rejected/odd.pem", "issuers/works.crt", "issuers/crl/works.der")
    for name in bad:
        path = state / "pki" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x30\x03abc")
    answer = call("certs", "list")
    assert answer.code == 1
    assert "rejected: CN=Test server" in answer.out
    assert "own collect" in answer.out
    for name in ("write/key.pem", *bad):
        assert name in answer.err
    assert answer.err.count("Replace it or move it away.") == len(bad)
    told = call("certs", "list", "--json")
    assert (told.code, len(told.record["faults"])) == (1, len(bad) + 1)
    assert [each["state"] for each in told.record["certificates"]] == ["own collect", "rejected"]
    digits = told.record["certificates"][1]["fingerprint"]
    for verb, became in (("accept", "trusted"), ("revoke", "revoked")):
        assert call("certs", verb, digits, "--json").record["state"] == became


def test_a_subject_cannot_write_on_the_terminal(call: CommandLine, state: Path) -> None:
    """Anybody can send us a certificate with anything in its name."""
    TrustStore(state / "pki").reject(server_pair(name="PLC\x1b[2J\r\nown: trust me").certificate)
    shown = call("certs", "list").out
    assert "\x1b" not in shown
    assert "own: trust me" not in shown.splitlines()


# -- secrets ---------------------------------------------------------------------------------------


def secrets(folder: Path, text: str, mode: int = 0o600, **environment: str) -> Secrets:
    """A secret file of that text and mode."""
    path = folder / "secrets.yaml"
    path.write_text(text)
    path.chmod(mode)
    return Secrets(path, environment)


OPERATOR = "opcua: {user: reader, password: r-pw, write: {user: operator, password: w-pw}}"


def test_a_login_is_told_for_one_identity_or_for_all(tmp_path: Path) -> None:
    """The identity's own before everybody's, and of each the environment before the file."""
    told = secrets(tmp_path, OPERATOR)
    assert told.password("opcua", "collect").user == "reader"
    assert told.password("opcua", "write").user == "operator"
    everybody = {"PLANTWRIGHT_OPCUA_USER": "env", "PLANTWRIGHT_OPCUA_PASSWORD": "e-pw"}
    told = secrets(tmp_path, OPERATOR, **everybody)
    assert told.password("opcua", "collect").user == "env"
    assert told.password("opcua", "write").user == "operator"
    own = {"PLANTWRIGHT_OPCUA_WRITE_USER": "me", "PLANTWRIGHT_OPCUA_WRITE_PASSWORD": "m-pw"}
    assert secrets(tmp_path, OPERATOR, **own).password("opcua", "write").user == "me"
    lab = {"PLANTWRIGHT_LAB_2_USER": "lab", "PLANTWRIGHT_LAB_2_PASSWORD": "l-pw"}
    found = Secrets(tmp_path / "none.yaml", lab).password("lab-2", "collect")
    assert (found.user, found.password.get_secret_value()) == ("lab", "l-pw")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no user and password are told for `write`"),
        ("other: {user: a, password: s3cret}", "no user and password"),
        ("opcua: {user: a}", "user is told and password is missing"),
        ("opcua: {password: s3cret}", "password is told and user is missing"),
        ("opcua: {user: a, password: null}", "user is told and password is missing"),
        ("opcua: s3cret", r"source \(line 1\).*Below each source's name"),
        ("- s3cret", r"file \(line 1\).*Below each source's name"),
        ("opcua:\n  user: [s3cret]", r"`user` \(line 2\): one text is needed"),
        ("opcua:\n  write: s3cret", r"`write` \(line 2\)"),
        ("opcua: {user: a, s3cret}", r"key \(line 1\): it is not known here. Known are user"),
        ("\nopuca: {user: a, password: s3cret}", r"Line 2 of .* names a source that reads much"),
        ("opcua: {user: a,\n password: s3cret: }", r"\(line 2\) is no YAML"),
        ("opcua: {user: a, password: 's3cret", "is no YAML"),
        ("opcua: {user: a, s3cret: 2026-99-99}", r"key \(line 1\)"),
        ("[" * 3000, "is no YAML text"),
    ],
)
def test_a_secret_file_with_a_fault_says_which_and_never_what(
    tmp_path: Path, text: str, words: str
) -> None:
    """The remedy, without a word of the secret: also not in what the parser had to say."""
    with pytest.raises(SecurityFault, match=words) as told:
        secrets(tmp_path, text).password("opcua", "write")
    assert "s3cret" not in str(told.value)
    assert told.value.__cause__ is None


def test_every_fault_of_a_secret_file_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    """Doubled and misspelt keys, of whichever source: a person mends the file once."""
    text = """opcua:
  user: reader
  passwort: s3cret
  write: {usr: operator, password: s3cret, password: s3cret2}
gateway: {user: a, password: s3cret}
gateway: {user: b, password: s3cret}
"""
    with pytest.raises(SecurityFault) as told:
        secrets(tmp_path, text).password("opcua", "write")
    said = str(told.value)
    for words in (
        "secrets.yaml: 4 faults",
        "key (line 3): it is not known here. Did you mean password?",
        "key (line 4): it is not known here. Did you mean user?",
        "`password` (line 4): it is told twice (lines 4 and 4). Keep one.",
        "source (line 6): it is told twice (lines 5 and 6). Keep one.",
    ):
        assert words in said
    assert "s3cret" not in said


def test_a_secret_is_taken_as_it_is_typed(tmp_path: Path) -> None:
    """What YAML reads as a number, a date or a yes is still the person's own text."""
    for typed in ("0123", "1_000", "2026-99-99", "yes", "1e3", "0x1F", '"~"', "'12:30'"):
        told = secrets(tmp_path, f"opcua: {{user: {typed}, password: {typed}}}")
        found = told.password("opcua", "write")
        assert found.user == found.password.get_secret_value() == typed.strip("'\"")


def test_a_secret_that_others_can_read_is_none(tmp_path: Path) -> None:
    """Refused with what to type."""
    for mode in (0o644, 0o640, 0o660, 0o602):
        with pytest.raises(SecurityFault, match=r"secrets\.yaml may be used by others.*chmod 600"):
            secrets(tmp_path, OPERATOR, mode).password("opcua", "write")


def test_a_secret_is_not_in_what_shows_it(tmp_path: Path) -> None:
    """Neither the store, nor a login, nor any form of them as text."""
    told = secrets(tmp_path, OPERATOR, PLANTWRIGHT_OPCUA_PASSWORD="e-pw")
    login = told.password("opcua", "write")
    for text in (repr(told), repr(login), str(login.password), json.dumps(login, default=str)):
        assert "-pw" not in text


# -- settings --------------------------------------------------------------------------------------


def test_another_machine_never_inherits_no_security(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was said of the emulator here is not said of the address that stands in for it."""
    for endpoint, policy in (
        ("opc.tcp://127.0.0.1:4999/", "None"),
        ("opc.tcp://plc.works:4840/", "Basic256Sha256"),
    ):
        monkeypatch.setenv("PLANTWRIGHT_ENDPOINT", endpoint)
        source = Settings().plant("four_tank").opcua
        assert source is not None
        assert (source.endpoint, source.security.policy) == (endpoint, policy)
