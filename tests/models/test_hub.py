"""Test models of the hub, from a stand-in: they come whole, once and checked, or one sentence says why not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import BertConfig

import acdc
from acdc import fingerprint
from tests import hub
from tests.gpt2 import gpt2_tokenizer
from tests.hub import PAGE, Repository, StandIn, ask, ask_file, client, error, stand_in
from tests.originals import vector_folder
from tests.small_models import gpt2, shaken

CONFIG = json.dumps({"model_type": "gpt2"}).encode()
WEIGHTS = bytes(range(256)) * 16
"""No weights, for nothing loads them, but larger than the parts in which files come."""
SMALL = {"config.json": CONFIG, "tokenizer.json": b"{}"}
FILES = {**SMALL, "model.safetensors": WEIGHTS}
SHARDED = {**SMALL, "model-1.safetensors": WEIGHTS, "model-2.safetensors": WEIGHTS[::-1]}
SHARDED["model.safetensors.index.json"] = json.dumps(
    {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
).encode()
OFFLINE = "http://127.0.0.1:9"
"""An address where nothing listens."""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with stand_in() as server:
        yield server


@pytest.fixture(scope="module")
def user(server, home) -> Iterator[ProcessPoolExecutor]:
    with client(server.url, home) as user:
        yield user


@pytest.fixture
def name(request) -> str:
    """Return the name of a repository of this test's own."""
    return "someone/" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-50:].strip("-")


Ask = Callable[..., str]


@pytest.fixture
def said(user, server, name) -> Ask:
    """Return a function that puts a repository on the hub, asks for it, and returns the folder, or the sentence."""

    def ask_for(repository: Repository | None, *arguments) -> str:
        if repository:
            server.repositories[name] = repository
        found, warnings, _ = user.submit(ask, name, *arguments).result()
        assert not warnings
        return found

    return ask_for


def without(name: str) -> dict[str, bytes]:
    return {file: content for file, content in SHARDED.items() if file != name}


def config(**settings) -> dict[str, bytes]:
    return {**FILES, "config.json": json.dumps(settings).encode()}


FOREIGN = config(model_type="own", auto_map={"AutoConfig": "own.OwnConfig"}, architectures=["Own"])
COULD_NOT = r"{} could not be downloaded from the Hugging Face hub at http://127\.0\.0\.1:\d+: {}"
MODEL = r"model someone/[a-z0-9-]+ \(revision main\)"
WEIGHTS_OF = f"model.safetensors of {MODEL}"
LOG_IN = "log in by `hf auth login` or set HF_TOKEN"
AS_IF_RIGHT = {"X-Repo-Commit": Repository(FILES).commit, "ETag": "1"}
"""Headers by which the hub's library takes any content for the file."""
REFUSED: dict[str, tuple[Repository | None, str]] = {
    "no repository": (None, COULD_NOT.format(MODEL, f"there is no such repository, or it is private: .*{LOG_IN}")),
    "gated": (
        Repository(FILES, error(403, "GatedRepo", "restricted")),
        COULD_NOT.format(MODEL, f"it is gated: accept its terms on its page there, and {LOG_IN}"),
    ),
    "gated, no token": (Repository(FILES, error(401, "GatedRepo")), COULD_NOT.format(MODEL, "it is gated")),
    "disabled": (
        Repository(FILES, error(403, "", "Access to this resource is disabled.")),
        COULD_NOT.format(MODEL, "it is disabled there"),
    ),
    "401": (Repository(FILES, error(401)), COULD_NOT.format(MODEL, "it refuses access: check the name")),
    "403": (Repository(FILES, error(403)), COULD_NOT.format(MODEL, f"it refuses access: {LOG_IN}")),
    "404": (Repository(FILES, error(404)), COULD_NOT.format(MODEL, "it answers with status 404: check the name")),
    "429": (Repository(FILES, error(429)), COULD_NOT.format(MODEL, "it takes no more requests for now: wait")),
    "500": (Repository(FILES, error(500)), COULD_NOT.format(MODEL, "it answers with status 500: try again later")),
    "500 of a file": (
        Repository(FILES, of_files={"model.safetensors": error(500)}),
        COULD_NOT.format(WEIGHTS_OF, "it answers with status 500: try again later"),
    ),
    "404 of a file": (
        Repository(FILES, of_files={"model.safetensors": error(404, "EntryNotFound")}),
        COULD_NOT.format(WEIGHTS_OF, "there is no such file"),
    ),
    "a login page": (Repository(FILES, PAGE), COULD_NOT.format(MODEL, "what answers is no hub: open a page")),
    "a login page for a JSON": (
        Repository(FILES, of_files={"config.json": PAGE}),
        COULD_NOT.format(f"config.json of {MODEL}", "what answers is no hub"),
    ),
    "a login page for weights": (
        Repository(FILES, sent=lambda _: hub.HTML),
        COULD_NOT.format(WEIGHTS_OF, "Consistency check failed: file should be of size 4096 but has size 64"),
    ),
    "a short file": (
        Repository(FILES, sent=lambda content: content[:-1]),
        COULD_NOT.format(WEIGHTS_OF, "Consistency check failed: .* but has size 4095 .*: try again"),
    ),
    "always cut": (
        Repository(FILES, cuts=1000),
        COULD_NOT.format(WEIGHTS_OF, "peer closed connection .*: try again, for what came whole is kept"),
    ),
    "stalled": (
        Repository(FILES, stalls="listing"),
        COULD_NOT.format(MODEL, "it does not answer: .* HF_HUB_ETAG_TIMEOUT and HF_HUB_DOWNLOAD_TIMEOUT"),
    ),
    "stalled in a file": (Repository(FILES, stalls="file"), COULD_NOT.format(WEIGHTS_OF, "it does not answer: try")),
    "a flipped bit": (
        Repository(FILES, sent=lambda content: content[:9] + b"\xff" + content[10:]),
        f"{WEIGHTS_OF} was damaged on its way from the hub and is removed: get it again",
    ),
    "a flipped bit in a small file": (
        Repository(FILES, of_files={"tokenizer.json": (200, AS_IF_RIGHT, b"[]")}),
        f"tokenizer.json of {MODEL} was damaged on its way from the hub and is removed: get it again",
    ),
    "no config": (
        Repository({"model.gguf": WEIGHTS}),
        COULD_NOT.format(f"config.json of {MODEL}", "there is no such file: .* save_pretrained"),
    ),
}
BEFORE_WEIGHTS: dict[str, tuple[Repository, str]] = {
    "bin only": (
        Repository({**SMALL, "pytorch_model.bin": WEIGHTS}),
        f"{MODEL} has no weights: .* pytorch_model.bin is not read: save the model by save_pretrained",
    ),
    "a shard is missing": (
        Repository(without("model-2.safetensors")),
        f"{MODEL} lacks model-2.safetensors, which model.safetensors.index.json names",
    ),
    "a damaged index": (
        Repository({**SHARDED, "model.safetensors.index.json": b"{"}),
        f"model.safetensors.index.json of {MODEL} is damaged or of another kind",
    ),
    "a damaged config": (Repository({**FILES, "config.json": b"{"}), f"config.json of {MODEL} is damaged"),
    "code of its own": (Repository(FOREIGN), f"{MODEL} brings code of its own, which is not run"),
    "unknown to Transformers": (
        Repository(config(model_type="own")),
        f"Transformers cannot load {MODEL}: .* model type `own`",
    ),
    "no weights of TransformerLens 1.x": (
        Repository(config(n_layers=2)),
        rf"{MODEL} has a config.json of TransformerLens 1.x and no weights \*final.pth",
    ),
}


@pytest.mark.parametrize(
    ("repository", "sentence"), [*REFUSED.values(), *BEFORE_WEIGHTS.values()], ids=[*REFUSED, *BEFORE_WEIGHTS]
)
def test_what_goes_wrong_is_one_sentence_that_names_the_repository(said, home, repository, sentence):
    found = said(repository)
    assert re.match(f"refused: {sentence}", found), found
    assert "\n" not in found and str(home) not in found and ": " in found


@pytest.mark.parametrize("repository", [repository for repository, _ in BEFORE_WEIGHTS.values()], ids=BEFORE_WEIGHTS)
def test_what_its_small_files_tell_is_refused_before_the_weights_are_downloaded(said, server, repository):
    asked = len(server.asked)
    assert said(repository).startswith("refused: ")
    assert not [line for line in server.asked[asked:] if line.endswith((".safetensors", ".bin", ".pth"))]


def test_a_revision_that_is_not_there_is_named(said):
    assert said(Repository(FILES)).endswith(Repository(FILES).commit)
    found = said(None, "v9")
    assert re.match("refused: model .* \\(revision v9\\) could not be .*: there is no such revision: check", found)


def test_a_broken_connection_is_taken_up_where_it_broke(said, server):
    asked = len(server.asked)
    folder = Path(said(Repository(FILES, cuts=1)))
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert any(line.endswith(f"model.safetensors bytes={len(WEIGHTS) // 2}-") for line in server.asked[asked:])


def test_large_files_come_from_another_host(said, server):
    folder = Path(said(Repository(SHARDED, is_redirected=True)))
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in SHARDED} == SHARDED


def test_a_repository_that_has_moved_is_found_by_its_old_name(said, server):
    """GPT-2 has moved so, from gpt2 to openai-community/gpt2."""
    server.repositories["someone/moved"] = Repository(FILES)
    folder = Path(said(Repository({}, moved_to="someone/moved")))
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_private_repository_opens_with_a_token(said, server, tmp_path):
    private = server.repositories["someone/private"] = Repository(FILES, token="hf_secret")
    assert "there is no such repository, or it is private" in said(private)
    with client(server.url, tmp_path, HF_TOKEN="hf_secret") as owner:
        folder, _, _ = owner.submit(ask, "someone/private").result()
    assert folder.endswith(private.commit)


def test_what_came_whole_is_kept_after_a_failure(said, server):
    broken = Repository(SHARDED, of_files={"model-2.safetensors": error(500)})
    assert said(broken).startswith("refused: model-2.safetensors")
    asked = len(server.asked)
    assert said(Repository(SHARDED)).endswith(broken.commit)
    files = {line.rpartition("/")[2] for line in server.asked[asked:] if "/resolve/" in line}
    assert files == {"model-2.safetensors"}


DAMAGES = {
    "model.safetensors": Repository(FILES, sent=lambda content: content[::-1]),
    "config.json": Repository(FILES, of_files={"config.json": (200, AS_IF_RIGHT, hub.HTML)}),
}


@pytest.mark.parametrize(("file", "repository"), DAMAGES.items(), ids=DAMAGES)
def test_what_was_damaged_on_its_way_is_downloaded_again(said, file, repository):
    assert re.match(f"refused: {file} of model .* was damaged on its way", said(repository))
    assert (Path(said(Repository(FILES))) / file).read_bytes() == FILES[file]


def test_a_digest_in_the_header_that_is_another_files_gives_no_other_file(said):
    """The hub's library takes a file of the same ETag from its cache, whatever the hub states of its content."""
    first = Repository(FILES, etags={"model.safetensors": "0" * 64})
    changed = Repository({**FILES, "model.safetensors": WEIGHTS[::-1]}, etags=first.etags)
    assert said(first).endswith(first.commit)
    assert "was damaged" in said(changed)
    assert (Path(said(changed)) / "model.safetensors").read_bytes() == WEIGHTS[::-1]


def test_files_are_compared_once_and_of_a_commit_nothing_is_asked_again(user, server, name):
    repository = server.repositories[name] = Repository(FILES)
    folder, _, n_hashed = user.submit(ask, name).result()
    assert n_hashed == len(SMALL) + len(FILES)  # small ones before the weights come, then all
    for revision, asked in (("main", [f"GET /api/models/{name}/revision/main"]), (repository.commit, [])):
        before = len(server.asked)
        assert user.submit(ask, name, revision).result() == (folder, [], 0)
        assert server.asked[before:] == asked


def test_a_file_that_changes_in_the_cache_is_compared_again(said):
    folder = Path(said(Repository(FILES)))
    weights = (folder / "model.safetensors").resolve()
    weights.write_bytes(WEIGHTS[::-1])
    assert "model.safetensors of" in (refused := said(None)) and "was damaged" in refused
    assert (Path(said(None)) / "model.safetensors").read_bytes() == WEIGHTS


def test_a_cache_that_can_not_be_written_is_named_with_the_remedy(server):
    server.repositories["someone/model"] = Repository(FILES)
    with client(server.url, Path("/dev/null/home")) as user:
        found, _, _ = user.submit(ask, "someone/model").result()
    assert "Not a directory in /dev/null/home/hub: give HF_HOME a folder with room and rights to write" in found


# Without a network.


@pytest.fixture(scope="module")
def offline(server, user, home) -> Iterator[ProcessPoolExecutor]:
    """Yield a user whose cache holds one model whole and another in part, and who says to be offline."""
    half = Repository(SHARDED, of_files={"model-2.safetensors": error(404, "EntryNotFound")})
    server.repositories |= {"someone/cached": Repository(FILES), "someone/half": half}
    for name in ("someone/cached", "someone/half"):
        user.submit(ask, name).result()
    with client(OFFLINE, home, HF_HUB_OFFLINE="1") as offline:
        yield offline


def test_offline_what_is_cached_is_used(offline, home):
    commit = Repository(FILES).commit
    for revision in ("main", commit):
        folder, warnings, n_hashed = offline.submit(ask, "someone/cached", revision).result()
        assert Path(folder) == home / "hub/models--someone--cached/snapshots" / commit
        assert not warnings and n_hashed == 0


def test_offline_what_is_not_cached_is_one_sentence(offline):
    missing = "it is not in the cache and HF_HUB_OFFLINE is set: download it once without, or give a folder"
    for name in ("none", "half"):
        found, _, _ = offline.submit(ask, f"someone/{name}").result()
        assert missing in found and "\n" not in found
    assert "what is cached is not enough: model someone/half (revision main) lacks model-2.safetensors" in found


@pytest.mark.parametrize(
    ("url", "environment"),
    [(OFFLINE, {}), ("http://no-such-hub.invalid", {}), ("http://hub.example", {"HTTP_PROXY": OFFLINE})],
    ids=("refused", "no such name", "no proxy"),
)
def test_where_no_hub_is_reached_what_is_cached_is_used_and_that_is_said(offline, home, url, environment):
    with client(url, home, **environment) as lost:
        found, _, _ = lost.submit(ask, "someone/none").result()
        folder, warnings, _ = lost.submit(ask, "someone/cached").result()
    unreachable = (
        f"could not be downloaded from the Hugging Face hub at {url}: it can not be reached: check the network"
    )
    assert found.startswith(f"refused: model someone/none (revision main) {unreachable}")
    assert folder.endswith(Repository(FILES).commit)
    assert warnings[0].startswith(f"model someone/cached (revision main) {unreachable}")
    assert warnings[0].endswith(". What is cached is used.")


# Whole models.


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Return models as the hub has them: GPT-2 whole, in shards, without a tokenizer; one of TransformerLens 1.x."""
    root = tmp_path_factory.mktemp("models")
    folders = {name: root / name for name in ("gpt2", "sharded", "no-tokenizer", "legacy", "tokenizer")}
    torch.manual_seed(0)
    model = shaken(gpt2(vocab_size=50257, hidden_size=8))
    for name, size in {"gpt2": "1GB", "sharded": "1MB", "no-tokenizer": "1GB"}.items():
        model.save_pretrained(folders[name], max_shard_size=size)
    for name in ("gpt2", "sharded", "tokenizer"):
        gpt2_tokenizer().save_pretrained(folders[name])
    vector_folder(folders["legacy"], "small2l")
    return folders


def with_tokenizer(repository: Repository, name: str) -> Repository:
    """Return a model of TransformerLens 1.x whose config names the repository of its tokenizer."""
    settings = json.loads(repository.files["config.json"]) | {"tokenizer_name": name}
    return Repository({**repository.files, "config.json": json.dumps(settings).encode()})


@pytest.fixture(scope="module")
def full_server(server, folders) -> StandIn:
    repositories = {name: Repository.of(folder) for name, folder in folders.items()}
    repositories["legacy"] = with_tokenizer(repositories["legacy"], "someone/tokenizer")
    server.repositories |= {f"someone/{name}": repository for name, repository in repositories.items()}
    return server


@pytest.mark.parametrize("name", ("gpt2", "sharded", "no-tokenizer", "legacy"))
def test_a_model_of_the_hub_is_what_its_files_are(full_server, user, folders, name):
    model = acdc.load_model(folders[name])
    weights, warnings, tokens = user.submit(hub.load, f"someone/{name}").result()
    assert weights == fingerprint.of_tensors(model.bridge.state_dict()) and not warnings
    assert tokens == ([] if name == "no-tokenizer" else gpt2_tokenizer()(hub.TEXT).input_ids)


def test_a_command_copies_the_models_own_files(full_server, user, folders, tmp_path):
    """Other files may lie beside them in the cache, which all programs share."""
    snapshot = Path(user.submit(ask, "someone/gpt2").result()[0])
    (snapshot / "flax_model.msgpack").write_bytes(b"another's")
    assert user.submit(hub.make, "someone/gpt2", tmp_path).result() == sorted(Repository.of(folders["gpt2"]).files)


def test_what_loads_not_is_named_by_its_repository(full_server, user, folders):
    files = Repository.of(folders["gpt2"]).files
    bert = BertConfig(architectures=["Bert"]).to_json_string().encode()
    full_server.repositories |= {
        "someone/damaged": Repository({**files, "model.safetensors": WEIGHTS}),
        "someone/bert": Repository({**files, "config.json": bert}),
        "someone/tokens": Repository({**files, "tokenizer.json": b"{}"}),
    }
    for name, sentence in {
        "someone/damaged": "refused: Transformers cannot load model someone/damaged: ",
        "someone/bert": "refused: model someone/bert lacks weights, bert.embeddings",
        "someone/tokens": "refused: the tokenizer in model someone/tokens does not load: ",
    }.items():
        said, _, _ = user.submit(hub.load, name).result()
        assert said.startswith(sentence) and "snapshots" not in said and "\n" not in said


def test_a_tokenizer_that_can_not_be_had_is_said(full_server, user, folders):
    full_server.repositories["someone/old"] = with_tokenizer(Repository.of(folders["legacy"]), "someone/nothing")
    _, (warning,), tokens = user.submit(hub.load, "someone/old").result()
    assert tokens == [] and "that of someone/nothing, which its config.json names, could not be had" in warning


class TestFilesOfDatasets:
    FILE = "default/train/0000.jsonl"

    @pytest.fixture
    def dataset(self, server, name) -> str:
        server.repositories[f"datasets/{name}"] = Repository({self.FILE: b"{}"})
        return name

    def test_a_file_comes_once_and_then_without_the_hub(self, user, server, home, dataset):
        commit = server.repositories[f"datasets/{dataset}"].commit
        assert user.submit(ask_file, dataset, "main", self.FILE).result() == "{}"
        asked = len(server.asked)
        assert user.submit(ask_file, dataset, commit, self.FILE).result() == "{}"
        assert len(server.asked) == asked
        with client(OFFLINE, home, HF_HUB_OFFLINE="1") as offline:
            assert offline.submit(ask_file, dataset, "main", self.FILE).result() == "{}"
            said = offline.submit(ask_file, dataset, "main", "other.jsonl").result()
        assert said.startswith(f"refused: other.jsonl of dataset {dataset} (revision main) could not be downloaded")
        assert said.endswith(
            "HF_HUB_OFFLINE is set: download it once without, or give a local file with the key 'prompts'"
        )

    def test_what_is_not_there_is_said_in_a_sentence(self, user, dataset):
        said = user.submit(ask_file, dataset, "main", "b.csv").result()
        assert (
            said
            == f"refused: b.csv of dataset {dataset} (revision main) is not there: see the dataset's page for its files"
        )
        said = user.submit(ask_file, dataset, "v2", self.FILE).result()
        assert "there is no such revision: check the revision, or give a local file" in said
        said = user.submit(ask_file, "someone/nothing", "main", self.FILE).result()
        assert "there is no such repository, or it is private: check the name" in said
