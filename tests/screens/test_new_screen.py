"""New: from nothing to a started run, by keyboard alone."""

import json
import shutil
import time
from pathlib import Path

import pytest
from textual.widgets import Input

from dpo_tui import paths
from dpo_tui.app import DpoTui
from dpo_tui.config.files import load
from dpo_tui.config.toml_text import to_toml
from dpo_tui.demo import assets
from dpo_tui.hub.model_code import code_digest, code_files
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.screens.monitor_screen import MonitorScreen
from dpo_tui.screens.new_screen import NewScreen
from dpo_tui.screens.runs_screen import RunsScreen
from dpo_tui.screens.steps.data_step import PathSuggester, preview
from dpo_tui.views import run_plan as plans
from dpo_tui.views.run_plan import RunPlan, parse, setting_text
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets.compact_inputs import ChoiceList
from dpo_tui.widgets.dialogs import MessageDialog
from dpo_tui.widgets.model_code_dialog import ModelCodeDialog
from dpo_tui.widgets.settings_form import SchemaForm
from tests.support.repository import ROOT
from tests.support.app import screen_text, until
from tests.support.own_code_model import make_own_code_model
from tests.support.training import make_config

PAIR = {"prompt": "Describe [b]a sunset[/b]", "chosen": "Gold over the sea.", "rejected": "It was pretty."}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the supervisor is a process of its own
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pairs_file(folder: Path, count: int = 40) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps({**PAIR, "prompt": f"{PAIR['prompt']} {n}"}) + "\n" for n in range(count)))
    return path


def app() -> DpoTui:
    return DpoTui(settings=UserSettings(theme="dark"))


async def open_new(pilot) -> NewScreen:
    await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
    await pilot.press("n")
    await until(pilot, lambda: isinstance(pilot.app.screen, NewScreen))
    await until(pilot, lambda: pilot.app.screen.plan.profile != "")
    return pilot.app.screen


async def test_the_hardware_step_says_what_was_found_and_marks_the_profile_that_suits(home):
    """On a machine without a GPU it says so, and that the demo runs anywhere."""
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await open_new(pilot)
        text = screen_text(pilot)
        assert "suits this machine" in text
        assert screen.plan.profile in text


async def test_enter_alone_leads_through_model_and_data_to_the_settings(home):
    path = pairs_file(home)
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await open_new(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.focused, ChoiceList) and pilot.app.focused.id == "models")
        assert "demo" in screen_text(pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: pilot.app.focused is not None and pilot.app.focused.id == "files")
        assert screen.plan.has_model
        await pilot.press("down", "down")  # past the shipped pairs, and the entry for those with prompts alone
        await until(pilot, lambda: "Describe [b]a sunset[/b] 0" in screen_text(pilot))
        assert "Gold over the sea." in screen_text(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.focused, SchemaForm))
        assert screen.plan.config.dataset == str(path)
        await until(pilot, lambda: "40 pairs" in screen_text(pilot))
        assert "effective batch" in screen_text(pilot)


async def open_settings(pilot) -> NewScreen:
    screen = await open_new(pilot)
    screen.set_plan(
        plans.with_values(screen.plan, {"model_name": "Qwen/Qwen3-0.6B", "dataset": str(pairs_file(Path.cwd()))})
    )
    screen.go(3)
    await until(pilot, lambda: isinstance(pilot.app.focused, SchemaForm))
    return screen


async def test_a_setting_is_typed_checked_as_it_is_typed_and_taken_back(home):
    """Warned outside 1e-7 to 1e-6 (5e-6 with LoRA)."""
    async with app().run_test(size=(100, 30)) as pilot:
        screen = await open_settings(pilot)
        form = screen.query_one(SchemaForm)
        while form.current.name != "learning_rate":
            await pilot.press("down")
        await pilot.press("enter")
        await pilot.press(*["backspace"] * 8, *"1e-2")
        await until(pilot, lambda: screen.plan.config.learning_rate == 1e-2)
        await until(pilot, lambda: "above the usual range" in screen_text(pilot).replace("\n", " "))
        await pilot.press("x")
        await until(pilot, lambda: bool(screen.plan.problems))
        assert "must be a number" in screen_text(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: not screen.plan.problems)
        assert screen.plan.config.learning_rate == 5e-7
        assert isinstance(pilot.app.focused, SchemaForm)


async def test_choices_are_cycled_and_advanced_settings_are_folded_until_asked_for(home):
    async with app().run_test(size=(100, 30)) as pilot:
        screen = await open_settings(pilot)
        form = screen.query_one(SchemaForm)
        assert "max_grad_norm" not in {row.name for row in form._visible}
        await pilot.press("a")
        assert "max_grad_norm" in {row.name for row in form._visible}
        while form.current.name != "use_lora":
            await pilot.press("down")
        await pilot.press("right")
        await until(pilot, lambda: screen.plan.config.use_lora is False)
        await pilot.press("delete")
        await until(pilot, lambda: screen.plan.config.use_lora is True)


async def test_a_recipe_fills_in_a_loss_says_what_it_changed_and_is_taken_out_again(home):
    """A method without a reference is offered with its own settings and without those of DPO."""
    async with app().run_test(size=(120, 40)) as pilot:
        screen = await open_settings(pilot)
        form = screen.query_one(SchemaForm)
        await pilot.press("a")
        while form.current.name != "recipe":
            await pilot.press("up")
        assert "as a starting point" in screen_text(pilot).replace("\n", " ")
        assert "simpo_gamma" not in {row.name for row in form.form_rows}
        while screen.plan.recipe != "simpo":
            before = screen.plan.recipe
            await pilot.press("right")
            await until(pilot, lambda before=before: screen.plan.recipe != before)
        config = screen.plan.config
        assert (config.strategy, config.beta, config.simpo_gamma, config.loss_type) == ("simpo", 2.0, 1.0, ["sigmoid"])
        await until(pilot, lambda: "beta = 2 (was 0.1)" in screen_text(pilot))
        assert "2405.14734" in screen_text(pilot)
        names = {row.name for row in form.form_rows}
        assert {"simpo_gamma", "cpo_alpha", "beta"} <= names and "precompute_ref_log_probs" not in names
        await pilot.press("delete")
        await until(pilot, lambda: screen.plan.recipe == "")
        assert (screen.plan.config.strategy, screen.plan.config.beta) == ("dpo", 0.1)


async def test_a_strategy_is_chosen_in_the_form_and_brings_its_own_defaults(home):
    async with app().run_test(size=(120, 40)) as pilot:
        screen = await open_settings(pilot)
        form = screen.query_one(SchemaForm)
        while form.current.name != "strategy":
            await pilot.press("down")
        assert form.current.options == ("dpo", "sft", "kto", "orpo", "simpo", "cpo")
        await until(pilot, lambda: "which one when" in screen_text(pilot))
        while screen.plan.config.strategy != "simpo":
            before = screen.plan.config.strategy
            await pilot.press("right")
            await until(pilot, lambda before=before: screen.plan.config.strategy != before)
        assert screen.plan.config.beta == 2.0


async def test_the_plan_is_kept_when_the_person_leaves_and_comes_back(home):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await open_settings(pilot)
        await pilot.press("1")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
        await pilot.press("2")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewScreen))
        assert pilot.app.screen is screen
        assert screen.plan.config.model_name == "Qwen/Qwen3-0.6B"


async def test_the_check_names_what_is_missing(home):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await open_new(pilot)
        screen.go(4)
        await until(pilot, lambda: "Choose a model" in screen_text(pilot))
        await pilot.press("enter")
        await pilot.pause(0.2)
        assert isinstance(pilot.app.screen, NewScreen)


async def test_the_check_says_in_words_why_a_plan_cannot_run(home):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await open_new(pilot)
        (home / "model").mkdir()
        screen.set_plan(
            plans.with_values(screen.plan, {"model_name": str(home / "model"), "dataset": str(pairs_file(home))})
        )
        screen.go(4)
        await until(pilot, lambda: "has no config.json" in screen_text(pilot))


async def test_a_model_that_no_run_could_start_from_is_refused_at_its_own_step(home):
    """In the words of Check and of `dpo-tui train`, which ask the same function."""
    broken = Path(shutil.copytree(assets.model_dir(), home / "broken"))
    values = json.loads((broken / "config.json").read_text()) | {"quantization_config": {"quant_method": "gptq"}}
    (broken / "config.json").write_text(json.dumps(values))
    async with app().run_test(size=(100, 30)) as pilot:
        screen = await open_new(pilot)
        screen.go(1)
        await pilot.press("shift+tab", *str(broken), "enter")
        await until(pilot, lambda: "2 Model ✗" in screen_text(pilot))
        assert "2 Model ✓" not in screen_text(pilot)
        screen.go(1)
        said = "config.json has a quantization_config (gptq), and no weight in its files is quantised"
        await until(pilot, lambda: said in " ".join(screen_text(pilot).split()))
        screen.set_plan(plans.with_values(screen.plan, {"dataset": str(pairs_file(home))}))
        screen.go(4)
        await until(pilot, lambda: said in " ".join(screen_text(pilot).split()), 30)
        # Another model takes the mark away.
        screen.set_plan(plans.with_values(screen.plan, {"model_name": str(assets.model_dir())}))
        screen.go(1)
        await until(pilot, lambda: "2 Model ✓" in screen_text(pilot))
        assert said not in " ".join(screen_text(pilot).split())


async def test_a_models_own_code_is_asked_about_once_with_its_files_and_what_a_yes_means(home, tiny_model):
    model = make_own_code_model(tiny_model, home / "own")
    digest = code_digest(code_files(model))

    async def choose(pilot) -> NewScreen:
        screen = await open_new(pilot)
        screen.go(1)
        await pilot.press("shift+tab", *str(model), "enter")
        return screen

    def words(pilot) -> str:
        return " ".join(screen_text(pilot).split())

    async with app().run_test(size=(80, 24)) as pilot:
        screen = await choose(pilot)
        await until(pilot, lambda: isinstance(pilot.app.screen, ModelCodeDialog), 30)
        said = words(pilot)
        assert all(f"{one[:12]}… {name}" in said for name, one in code_files(model).items())
        assert digest in said and "all your rights" in said and "y run it n no" in said
        await pilot.press("enter")
        assert isinstance(pilot.app.screen, ModelCodeDialog), "enter, which goes on elsewhere, is no yes"
        await pilot.press("n")
        await until(pilot, lambda: "2 Model ✗" in screen_text(pilot))
        screen.go(1)
        await until(pilot, lambda: "it has not been allowed to run" in words(pilot))
        assert not paths.trusted_code().exists()
        screen.set_plan(plans.with_values(screen.plan, {"dataset": str(pairs_file(home)), "gpus": "none"}))
        screen.go(4)
        await until(pilot, lambda: isinstance(pilot.app.screen, ModelCodeDialog), 30)
        await pilot.press("y")
        await until(pilot, lambda: "2 Model ✓" in screen_text(pilot), 30)
        assert "its own code makes it" in words(pilot).lower() or "Reading the data" in words(pilot)
    async with app().run_test(size=(80, 24)) as pilot:
        await choose(pilot)
        await until(pilot, lambda: "2 Model ✓" in screen_text(pilot), 30)
        assert isinstance(pilot.app.screen, NewScreen), "the answer holds"


async def test_code_that_a_config_allowed_and_that_has_changed_is_refused_and_not_asked_about(home, tiny_model):
    model = make_own_code_model(tiny_model, home / "own")
    async with app().run_test(size=(100, 30)) as pilot:
        screen = await open_new(pilot)
        screen.set_plan(
            plans.with_values(screen.plan, {"model_name": str(model), "trust_remote_code": "0" * 64, "gpus": "none"})
        )
        screen.go(1)
        await until(pilot, lambda: "allows other code than is there now" in " ".join(screen_text(pilot).split()), 30)
        assert isinstance(pilot.app.screen, NewScreen)


async def test_an_adapter_is_said_at_the_step_of_the_model_to_be_merged_into_its_base_first(home):
    adapter = home / "adapter"
    adapter.mkdir()
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(assets.model_dir())}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    header = b'{"__metadata__":{}}'
    (adapter / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    async with app().run_test(size=(100, 30)) as pilot:
        screen = await open_new(pilot)
        screen.set_plan(plans.with_values(screen.plan, {"model_name": str(adapter)}))
        screen.go(1)
        await until(pilot, lambda: "merged into it first" in " ".join(screen_text(pilot).split()))
        assert "2 Model ✓" in screen_text(pilot)


@pytest.mark.skipif(not assets.model_dir().is_dir(), reason="the demo's model is not built here")
async def test_three_enters_make_the_demo_run_and_show_its_monitor(home, monkeypatch):
    """No other key than arrows, Enter and what the footer names. The supervisor is real, its worker is
    told to be a program that ends at once."""
    monkeypatch.setattr("dpo_tui.runs.start_run.default_worker_argv", lambda folder, python="": ["/bin/true"])
    async with app().run_test(size=(80, 24)) as pilot:
        await open_new(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: pilot.app.focused is not None and pilot.app.focused.id == "models")
        await pilot.press("enter")
        await until(pilot, lambda: "Ready: enter starts the run" in screen_text(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, MonitorScreen), 30)
        await until(pilot, lambda: "demo" in screen_text(pilot))
        run = next((home / "home" / "runs").glob("2*/state.json")).parent
        deadline = time.monotonic() + 30
        while json.loads((run / "state.json").read_text())["status"] in ("queued", "starting", "running"):
            assert time.monotonic() < deadline
            await pilot.pause(0.1)


async def test_settings_of_an_earlier_run_are_the_start_of_a_new_one(home):
    config = home / "config.toml"
    config.write_text('[model]\nmodel_name = "Qwen/Qwen3-0.6B"\n[data]\ndataset = "x.jsonl"\n[dpo]\nbeta = 0.3\n')
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await open_new(pilot)
        screen.open_file(config)
        await until(pilot, lambda: screen.plan.config.beta == 0.3)
        assert screen.plan.origin("beta") == "file"


async def test_a_config_file_is_opened_by_its_path_and_a_wrong_path_is_told(home):
    (home / "mine.toml").write_text('[model]\nmodel_name = "m"\n[data]\ndataset = "d"\n[dpo]\nbeta = 0.25\n')
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await open_new(pilot)
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(pilot.app.focused, Input))
        await pilot.press(*"mine.toml", "enter")
        await until(pilot, lambda: screen.plan.config.beta == 0.25)
        await until(pilot, lambda: isinstance(pilot.app.focused, SchemaForm))
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(pilot.app.focused, Input))
        await pilot.press(*"none.toml", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, MessageDialog))
        assert "none.toml" in screen_text(pilot)


def test_sources_outrank_each_other_profile_file_person(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[training]\nlearning_rate = 1e-6\n[lora]\nlora_r = 32\n")
    plan = plans.with_file(plans.with_profile(RunPlan(), "mid-range", {"lora_r": 16, "lora_alpha": 32}), path)
    assert (plan.config.lora_r, plan.config.alpha, plan.origin("lora_r")) == (32, 64, "file")
    plan = plans.with_values(plan, {"lora_r": 64})
    assert (plan.config.lora_r, plan.config.alpha, plan.origin("lora_r")) == (64, 128, "you")
    plan = plans.with_values(plan, {"lora_r": None})
    assert plan.config.lora_r == 32


def test_a_wrong_value_keeps_the_last_good_plan_and_is_named():
    plan = plans.with_values(RunPlan(), {"beta": 0.2})
    wrong = plans.with_values(plan, {"beta": -1})
    assert wrong.config.beta == 0.2
    assert wrong.shown("beta") == -1
    assert "greater than 0" in wrong.problem("beta")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("learning_rate", "5e-7", 5e-7), ("lora_r", "32", 32), ("lora_alpha", "", None), ("model_name", "7", "7"),
        ("lora_target_modules", "q_proj, v_proj", ["q_proj", "v_proj"]), ("loss_weights", "1, 0.5", [1.0, 0.5]),
        ("optim", "sgd", "sgd"), ("beta", "abc", "abc"), ("max_steps", "60", 60),
    ],
)  # fmt: skip
def test_typed_text_becomes_the_value_it_means(name, text, value):
    assert parse(name, text) == value


def test_values_are_written_as_people_write_them():
    assert [setting_text(v) for v in (5e-7, True, None, ["a", "b"], 3, 0.1)] == ["5e-7", "yes", "", "a, b", "3", "0.1"]


async def test_paths_complete_from_the_disk(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "pairs.jsonl").touch()
    suggest = PathSuggester().get_suggestion
    assert await suggest(f"{tmp_path}/fo") == f"{tmp_path}/folder/"
    assert await suggest(f"{tmp_path}/folder/") == f"{tmp_path}/folder/pairs.jsonl"
    assert await suggest(f"{tmp_path}/none/x") is None


def test_the_preview_of_bad_data_says_what_is_wrong(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"prompt": "x"}\n')
    text = " ".join(words for words, _ in preview(str(path)))
    assert "chosen" in text
    assert preview(str(tmp_path / "none.jsonl"))[0][1] == "bad"


async def test_a_run_starts_from_the_model_of_an_earlier_run(home, tiny_model, tiny_pairs, monkeypatch):
    """``run:ID`` in the model's field is forecast, checked and started like any model."""
    started: list[RunFolder] = []
    monkeypatch.setattr("dpo_tui.screens.new_screen.start", started.append)
    first = store.create(to_toml(make_config(tiny_model, tiny_pairs)), name="first", devices=[])
    shutil.copytree(tiny_model, first.merged)
    async with app().run_test(size=(100, 40)) as pilot:
        screen = await open_new(pilot)
        screen.set_plan(plans.with_values(screen.plan, {"dataset": str(tiny_pairs), "gpus": "none", "profile": "none"}))
        screen.go(1)
        screen.query_one("#model-field", Input).focus()
        await pilot.press(*f"run:{first.id}", "enter")
        await until(pilot, lambda: screen.plan.config.model_name == f"run:{first.id}")
        await until(pilot, lambda: screen.forecast.memory is not None)
        screen.go(4)
        await until(pilot, lambda: "40 of 40 can be used" in screen_text(pilot))
        assert str(first.merged) in "".join(screen_text(pilot).split())
        await pilot.press("enter")
        await until(pilot, lambda: bool(started))
    assert load(started[0].config).config.model_name == str(first.merged)


@pytest.mark.parametrize(("step", "field"), [(1, "#model-field"), (2, "#data-field")], ids=["model", "data"])
async def test_what_is_typed_over_a_list_of_choices_goes_into_the_field(home, tiny_model, tiny_pairs, step, field):
    async with app().run_test(size=(100, 40)) as pilot:
        screen = await open_new(pilot)
        screen.set_plan(plans.with_values(screen.plan, {"model_name": "old/model", "dataset": "old.jsonl"}))
        screen.go(step)
        await until(pilot, lambda: isinstance(pilot.app.focused, ChoiceList))
        typed = str((tiny_model, tiny_pairs)[step - 1])
        await pilot.press(*typed, "enter")
        chosen = ("model_name", "dataset")[step - 1]
        await until(pilot, lambda: getattr(screen.plan.config, chosen) == typed)
        assert screen.query_one(field, Input).value == typed
