"""The trainer with the real TRL and PEFT, on a CPU, with a model made here: make test-trainer.

A run that is killed and resumed must have the loss curve of an uninterrupted run. The step at which it is killed is random; SEED
reproduces it.
"""

import contextlib
import glob
import io
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
import unittest.mock
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
TRAINER = os.path.dirname(HERE)
sys.path[:0] = [TRAINER, HERE]

import checkpoint  # noqa: E402
import corpus  # noqa: E402
import data as training_data  # noqa: E402
import report  # noqa: E402
import tiny  # noqa: E402
import train  # noqa: E402

PORT = 19400  # the port of jobs is 9400
TOTAL = 24  # 48 rows, batches of 4, 2 epochs
LIMIT = 300  # seconds for one run; it takes about fifteen
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
PLAN = os.path.join(TRAINER, os.pardir, os.pardir, "workspace-operator", "internal", "plan", "tuning.go")
DATASETS = os.path.join(TRAINER, os.pardir, "internal", "runner", "dataset", "testdata")  # the corpus that the runner checks
GOLDEN = os.path.join(TRAINER, os.pardir, "internal", "training", "testdata")  # golden files of the operator


def configuration(**trainer):
    arguments = {"per_device_train_batch_size": 4, "num_train_epochs": 2, "learning_rate": 0.01, "logging_steps": 1, "max_length": 64, "seed": 7}
    return {
        "version": 1, "method": "lora", "lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": "all-linear", "task_type": "CAUSAL_LM"},
        "trainer": {**arguments, **trainer}, "dataset": {"shuffle": True, "seed": 42, "trainFraction": 1},
    }


def read(path):
    with open(path) as file:
        return json.load(file)


class Run:
    """A run of one container."""

    def __init__(self, work, config=None, data=None, port=0, every=5, launcher=None, model=None):
        self.work = work
        os.makedirs(work, exist_ok=True)
        self.env = {
            **os.environ, "KAITO_TRAINING_CONFIG": json.dumps(config or configuration()), "KAITO_MODEL_DIR": model or Trainer.model,
            "KAITO_DATA_DIR": data or Trainer.data, "KAITO_ADAPTER_DIR": os.path.join(work, "adapter"), "KAITO_CHECKPOINT_DIR": os.path.join(work, "checkpoints"),
            "KAITO_CHECKPOINT_STEPS": str(every), "KAITO_CHECKPOINT_KEEP": "2", "KAITO_RESULT_FILE": os.path.join(work, "train.json"),
            "KAITO_TERMINATION_LOG": os.path.join(work, "termination-log"), "KAITO_PROGRESS_PORT": str(port), "KAITO_BASE_MODEL": "org/tiny",
            "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "HOME": work, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
        }
        if os.path.exists(self.env["KAITO_TERMINATION_LOG"]):  # each container has its own
            os.remove(self.env["KAITO_TERMINATION_LOG"])
        self.losses = {}
        self.errors = tempfile.TemporaryFile(mode="w+")
        command = [sys.executable, *(launcher or []), os.path.join(TRAINER, "train.py")]
        self.process = subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, stderr=self.errors, text=True)

    def lines(self):
        for raw in self.process.stdout:
            if raw.startswith("{"):
                line = json.loads(raw)
                if line["event"] == "progress" and "loss" in line["train"]:
                    self.losses[line["train"]["step"]] = line["train"]["loss"]
                yield line

    def end(self):
        for _ in self.lines():
            pass
        self.code = self.process.wait(LIMIT)
        self.errors.seek(0)
        self.stderr = self.errors.read()
        self.errors.close()
        self.process.stdout.close()
        path = self.env["KAITO_TERMINATION_LOG"]
        self.message = read(path) if os.path.exists(path) else None
        return self

    def until(self, wanted):
        """Read lines until one matches."""
        for line in self.lines():
            if wanted(line):
                return line
        raise AssertionError("the run ended first: " + self.end().stderr)


class Trainer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = tempfile.mkdtemp(prefix="kaito-trainer-")
        cls.model, cls.data = os.path.join(cls.root, "model"), os.path.join(cls.root, "data")
        tiny.make_model(cls.model)
        tiny.make_data(cls.data)
        cls.whole = Run(cls.folder("whole")).end()

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.root)

    @classmethod
    def folder(cls, name):
        path = os.path.join(cls.root, name)
        os.makedirs(path, exist_ok=True)
        return path

    def assert_same_curve(self, *runs, whole=None):
        """Return each step of the runs, lost ones included, and the merged steps."""
        whole = whole or self.whole
        for number, run in enumerate(runs):
            for step, loss in run.losses.items():
                self.assertAlmostEqual(loss, whole.losses[step], places=5, msg="run %d, step %d" % (number, step))
        self.assertEqual(sorted(set().union(*(run.losses for run in runs))), list(range(1, TOTAL + 1)))

    def assert_same_adapter(self, work, whole=None):
        from safetensors.torch import load_file

        a = load_file(os.path.join((whole or self.whole).work, "adapter", "adapter_model.safetensors"))
        b = load_file(os.path.join(work, "adapter", "adapter_model.safetensors"))
        self.assertEqual(a.keys(), b.keys())
        for name in a:
            self.assertLess((a[name] - b[name]).abs().max().item(), 1e-5, name)

    def test_a_whole_run(self):
        run = self.whole
        self.assertEqual(run.code, 0, run.stderr)
        self.assertEqual(run.message["version"], 1)
        self.assertEqual(run.message["step"], "train")
        self.assertNotIn("reason", run.message)
        self.assertEqual((run.message["train"]["fromStep"], run.message["train"]["step"], run.message["train"]["totalSteps"]), (0, TOTAL, TOTAL))
        self.assertLess(run.losses[TOTAL], run.losses[1] - 0.1, "it learns")
        self.assertEqual(read(os.path.join(self.root, "whole", "train.json")), run.message)
        self.assertEqual(sorted(os.listdir(os.path.join(self.root, "whole", "adapter"))), ["adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"])
        with open(os.path.join(self.root, "whole", "adapter", "chat_template.jinja")) as template:
            self.assertEqual(template.read(), tiny.TEMPLATE, "it is served with what it was trained with")
        self.assertEqual([step for step, _ in checkpoint.complete(os.path.join(self.root, "whole", "checkpoints"))], [20, TOTAL], "two are kept, the end among them")

    def test_the_adapter_loads_and_names_its_base(self):
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = os.path.join(self.root, "whole", "adapter")
        self.assertEqual(read(os.path.join(folder, "adapter_config.json"))["base_model_name_or_path"], "org/tiny")
        row = next(tiny.rows("messages", 1))["messages"]
        ids = AutoTokenizer.from_pretrained(self.model).apply_chat_template(row, return_tensors="pt")
        with torch.no_grad():
            base = AutoModelForCausalLM.from_pretrained(self.model).eval()
            before = base(ids, labels=ids)
            model = PeftModel.from_pretrained(base, folder).eval()
            after = model(ids, labels=ids)
            with model.disable_adapter():
                without = model(ids, labels=ids)
        self.assertGreater((after.logits - before.logits).abs().max().item(), 0.1, "the adapter changes the output")
        self.assertLess(after.loss.item(), before.loss.item() - 0.1, "towards what it was trained on")
        self.assertTrue(torch.equal(without.logits, before.logits), "and is all that changes it")

    def test_killed_and_resumed_is_the_same_run(self):
        work = self.folder("killed")
        first = Run(work)
        first.until(lambda l: l["train"]["step"] >= 18)  # in the second epoch, which has another order
        first.process.kill()
        first.end()
        self.assertEqual(first.code, -signal.SIGKILL)
        self.assertIsNone(first.message)
        second = Run(work).end()
        self.assertEqual(second.code, 0, second.stderr)
        self.assertIn(second.message["train"]["fromStep"], (15, 20))
        self.assert_same_curve(first, second)
        self.assert_same_adapter(work)

    def test_each_shape_and_format_killed_at_a_random_step_is_the_same_run(self):
        print("SEED=%d" % SEED, file=sys.stderr)
        dice = random.Random(SEED)
        wholes = {"messages": self.whole}
        for shape, form in itertools.product(("messages", "prompt-completion"), ("jsonl", "parquet")):
            at = dice.randrange(1, TOTAL)
            with self.subTest(shape=shape, form=form, SEED=SEED, step=at):
                name = shape + "-" + form
                data = self.folder(name + "-data")
                tiny.make_data(data, shape, form)
                # The rows of both formats are the same, so that the curves must be the same.
                if shape not in wholes:
                    wholes[shape] = Run(self.folder(name + "-whole"), data=data).end()
                    self.assertEqual(wholes[shape].code, 0, wholes[shape].stderr)
                work = self.folder(name)
                first = Run(work, data=data)
                first.until(lambda l: l["train"]["step"] >= at)
                first.process.kill()
                first.end()
                self.assertEqual(first.code, -signal.SIGKILL)
                second = Run(work, data=data).end()
                self.assertEqual(second.code, 0, second.stderr)
                self.assertLessEqual(second.message["train"]["fromStep"], max(first.losses))
                self.assert_same_curve(first, second, whole=wholes[shape])
                self.assert_same_adapter(work, whole=wholes[shape])

    def test_stopped_and_resumed_is_the_same_run(self):
        work = self.folder("stopped")
        first = Run(work, every=1000)
        first.until(lambda l: l["train"]["step"] >= 7)
        first.process.send_signal(signal.SIGTERM)
        first.end()
        self.assertEqual(first.code, report.EXIT_PREEMPTED, first.stderr)
        self.assertEqual(first.message["reason"], "Preempted")
        at = first.message["train"]["step"]
        self.assertEqual(first.message["train"]["checkpointStep"], at, "no step is lost")
        self.assertLess(at, TOTAL)
        self.assertFalse(os.path.exists(os.path.join(work, "adapter")), "half an adapter is none")
        second = Run(work, every=1000).end()
        self.assertEqual(second.code, 0, second.stderr)
        self.assertEqual(second.message["train"]["fromStep"], at)
        self.assert_same_curve(first, second)
        self.assert_same_adapter(work)

    def test_a_half_written_checkpoint_is_not_resumed_from(self):
        work = self.folder("half")
        shutil.copytree(os.path.join(self.root, "whole", "checkpoints", "checkpoint-20"), os.path.join(work, "checkpoints", "checkpoint-20"))
        broken = os.path.join(work, "checkpoints", "checkpoint-22")
        shutil.copytree(os.path.join(work, "checkpoints", "checkpoint-20"), broken)
        os.remove(os.path.join(broken, checkpoint.MARKER))
        run = Run(work).end()
        self.assertEqual(run.code, 0, run.stderr)
        self.assertEqual(run.message["train"]["fromStep"], 20)
        self.assertFalse(os.path.exists(broken))
        self.assert_same_adapter(work)

    def test_a_finished_run_that_starts_again_only_delivers(self):
        work = self.folder("again")
        shutil.copytree(os.path.join(self.root, "whole", "checkpoints"), os.path.join(work, "checkpoints"))
        run = Run(work).end()
        self.assertEqual(run.code, 0, run.stderr)
        self.assertEqual(run.message["train"]["fromStep"], TOTAL)
        self.assert_same_adapter(work)

    def test_checkpoints_of_another_configuration_are_refused(self):
        work = self.folder("other")
        shutil.copytree(os.path.join(self.root, "whole", "checkpoints"), os.path.join(work, "checkpoints"))
        run = Run(work, config=configuration(learning_rate=0.02)).end()
        self.assertEqual(run.code, report.EXIT_PERMANENT, run.stderr)
        self.assertEqual((run.message["reason"], run.message["permanent"]), ("CheckpointInvalid", True))

    def test_checkpoints_of_other_data_are_refused(self):
        work = self.folder("other-data")
        facts = os.path.join(work, "facts.json")
        for revision, digest, code in (("r1", "sha256:1", 0), ("r1", "sha256:1", 0), ("r2", "sha256:1", report.EXIT_PERMANENT), ("r1", "sha256:2", report.EXIT_PERMANENT)):
            with open(facts, "w") as out:
                json.dump({"baseRevision": revision, "datasetDigest": digest}, out)
            with unittest.mock.patch.dict(os.environ, KAITO_FACTS_FILE=facts):
                run = Run(work, config=configuration(num_train_epochs=1)).end()
            self.assertEqual(run.code, code, run.stderr)
            if code:
                self.assertEqual(run.message["reason"], "CheckpointInvalid")

    def test_a_key_that_no_library_knows_is_named(self):
        run = Run(self.folder("unknown"), config=configuration(leaning_rate=1)).end()
        self.assertEqual(run.code, report.EXIT_PERMANENT, run.stderr)
        self.assertEqual(run.message["reason"], "ConfigInvalid")
        self.assertIn("leaning_rate", run.message["message"])

    def test_a_key_that_peft_does_not_know_is_not_tried_again(self):
        config = configuration()
        config["lora"]["rank"] = 8
        run = Run(self.folder("peft"), config=config).end()
        self.assertEqual(run.code, report.EXIT_PERMANENT, run.stderr)
        self.assertEqual(run.message["reason"], "ConfigInvalid")
        self.assertIn("rank", run.message["message"])

    def test_what_fails_in_the_same_way_again_is_not_tried_again(self):
        wrong = configuration()
        wrong["lora"]["target_modules"] = ["no_such_layer"]
        attention = configuration()
        attention["model"] = {"attn_implementation": "flash_attention_2"}
        for name, config, says in (("modules", wrong, "no_such_layer"), ("attention", attention, "flash_attn")):
            with self.subTest(name):
                run = Run(self.folder("again-" + name), config=config).end()
                self.assertEqual(run.code, report.EXIT_PERMANENT, run.stderr)
                self.assertEqual((run.message["reason"], run.message["permanent"]), ("TrainingFailed", True))
                self.assertIn(says, run.message["message"])

    def test_the_cause_of_an_error_is_told(self):
        try:
            try:
                raise KeyError("role")
            except KeyError as error:
                raise RuntimeError("one of the subprocesses died") from error
        except RuntimeError as error:
            failure = train.explain(error, begun=False)
        self.assertEqual((str(failure), failure.permanent), ("KeyError: 'role'", True))
        self.assertFalse(train.explain(RuntimeError("CUDA error"), begun=False).permanent, "another node may do")
        self.assertFalse(train.explain(ValueError("x"), begun=True).permanent)

    def test_a_loss_that_is_no_number_ends_the_run(self):
        run = Run(self.folder("diverged"), config=configuration(learning_rate=1e30, max_grad_norm=0)).end()
        self.assertEqual(run.code, report.EXIT_PERMANENT, run.stderr)
        self.assertEqual(run.message["reason"], "TrainingDiverged")
        self.assertNotIn("loss", run.message["train"], "JSON has no NaN")

    def small_gpu(self, name, parts, **trainer):
        with unittest.mock.patch.dict(os.environ, PARTS=str(parts)):
            return Run(self.folder(name), config=configuration(**trainer), launcher=[os.path.join(HERE, "small_gpu.py")]).end()

    def test_the_loss_takes_what_the_plan_counts(self):
        measured = float(subprocess.run([sys.executable, os.path.join(HERE, "loss_memory.py")], stdout=subprocess.PIPE, text=True, check=True).stdout)
        with open(PLAN) as source:
            planned = float(re.search(r"logitBytes = ([\d.]+)", source.read()).group(1))
        self.assertGreaterEqual(planned, measured)
        self.assertLess(planned, 1.2 * measured, "no larger GPU is rented for nothing")

    def test_too_little_memory_is_told_with_what_would_do(self):
        run = self.small_gpu("short", 1)
        self.assertEqual(run.code, report.EXIT_PERMANENT, run.stderr)
        self.assertEqual(run.message["reason"], "GPUOutOfMemory")
        for part in ("Tried to allocate 2.00 GiB", "4 x 64 tokens", "per_device_train_batch_size 2 with gradient_accumulation_steps 2"):
            self.assertIn(part, run.message["message"])

    def test_smaller_parts_are_taken_when_allowed_and_the_steps_stay_the_same(self):
        run = self.small_gpu("allowed", 1, auto_find_batch_size=True)
        self.assertEqual(run.code, 0, run.stderr)
        self.assertEqual(run.message["train"]["totalSteps"], TOTAL)
        self.assertEqual(sorted(run.losses), list(range(1, TOTAL + 1)))
        # Rows, order and learning rate are the same. The loss is averaged over other parts, with other dropout.
        self.assertAlmostEqual(run.losses[1], self.whole.losses[1], delta=0.2)

    def test_what_cannot_be_smaller_says_so(self):
        run = self.small_gpu("least", 0, per_device_train_batch_size=1, auto_find_batch_size=True)
        self.assertEqual(run.code, report.EXIT_PERMANENT, run.stderr)
        self.assertIn("lower max_length, for example to 32", run.message["message"])
        self.assertIn("qlora", run.message["message"])

    def loaded(self, name, settings):
        """Return the number of rows that the libraries make batches of, or None where they fail."""
        import lengths
        from peft import LoraConfig
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from trl import SFTConfig, SFTTrainer

        tokenizer = AutoTokenizer.from_pretrained(self.model)
        try:
            rows = training_data.load(os.path.join(DATASETS, "corpus", name), settings)
            if "text" not in rows.column_names:
                rows = training_data.as_turns(rows)
            rows = lengths.check(rows, tokenizer, 64, 1, unittest.mock.Mock())
            trainer = SFTTrainer(
                model=AutoModelForCausalLM.from_pretrained(self.model), processing_class=tokenizer, train_dataset=rows,
                args=SFTConfig(output_dir=self.folder("corpus"), report_to="none", use_cpu=True, bf16=False, max_length=64),
                peft_config=LoraConfig(r=1, target_modules=["q_proj"], task_type="CAUSAL_LM"),
            )
            for _ in trainer.get_train_dataloader():
                pass
            return len(trainer.train_dataset)
        except Exception:  # noqa: BLE001  (each reason that the libraries have)
            return None

    def test_the_libraries_agree_with_the_check(self):
        verdicts = read(os.path.join(DATASETS, "verdicts.json"))
        names = [name for name, _, _ in corpus.shapes()]
        self.assertEqual(sorted(names), sorted(verdicts))
        with contextlib.redirect_stderr(io.StringIO()):  # a line of progress for each file
            said = {name: self.loaded(name, verdicts[name].get("settings", {})) for name in names}
        self.assertEqual(said, {name: verdicts[name].get("rows") for name in names})
        print("%d datasets: %d loaded, %d refused" % (len(said), sum(rows is not None for rows in said.values()), sum(rows is None for rows in said.values())))

    def test_the_corpus_is_what_the_script_writes(self):
        folder = self.folder("written")
        corpus.write(folder)
        for path in glob.glob(os.path.join(folder, "**", "*.*"), recursive=True):
            with open(path, "rb") as want, open(os.path.join(DATASETS, "corpus", os.path.relpath(path, folder)), "rb") as have:
                self.assertEqual(want.read(), have.read(), path)

    def test_the_data_of_other_projects_is_mapped(self):
        turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
        for name, row, want in (
            ("sharegpt", {"id": "1", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, {"messages": turns}),
            ("alpaca", {"instruction": "i", "input": "x", "output": "o"}, {"prompt": "i\n\nx", "completion": "o"}),
            ("alpaca-without", {"instruction": "i", "input": "", "output": "o"}, {"prompt": "i", "completion": "o"}),
            ("instructions", {"instruction": "i", "response": "o"}, {"prompt": "i", "completion": "o"}),
            ("tools", {"messages": turns, "tools": [{"name": "f"}], "n": 1}, {"messages": turns, "tools": [{"name": "f"}]}),
        ):
            with self.subTest(name):
                folder = self.folder("mapped-" + name)
                with open(os.path.join(folder, "a.jsonl"), "w") as out:
                    out.write(json.dumps(row) + "\n")
                rows = training_data.load(folder, {})
                self.assertEqual(list(rows), [want])

    def test_fields_that_come_late_are_read(self):
        turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
        called = [turns[0], {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "f"}}]}]
        first = {"messages": turns}
        for name, rows, column, want in (
            ("input", [{"instruction": "i", "output": "o"}] * 1500 + [{"instruction": "i", "input": "x", "output": "o"}], "prompt", "i\n\nx"),
            ("tools", [first] * 1500 + [{**first, "tools": [{"name": "f"}]}], "tools", [{"name": "f"}]),
            ("calls", [first] * 1500 + [{"messages": called}], "messages", None),
        ):
            with self.subTest(name):
                folder = self.folder("late-" + name)
                with open(os.path.join(folder, "a.jsonl"), "w") as out:
                    out.write("".join(json.dumps(row) + "\n" for row in rows))
                read_rows = training_data.load(folder, {})
                self.assertEqual(len(read_rows), len(rows))
                if want:
                    self.assertEqual(read_rows[-1][column], want)
                else:
                    self.assertEqual(read_rows[-1]["messages"][1]["tool_calls"][0]["function"]["name"], "f")

    def test_a_model_of_several_templates_is_served_with_the_one_that_was_trained(self):
        from transformers import AutoTokenizer

        for name, row, want in (
            ("plain", {"prompt": "p", "completion": "c"}, "one"),
            ("tools", {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "tools": [{"name": "f"}]}, "two"),
        ):
            folder = self.folder("templates-" + name)
            with open(os.path.join(folder, "a.jsonl"), "w") as out:
                out.write(json.dumps(row) + "\n")
            tokenizer = AutoTokenizer.from_pretrained(self.model)
            tokenizer.chat_template = {"default": "one", "tool_use": "two"}
            settings = unittest.mock.Mock(data=folder, config={"dataset": {}})
            train.load_data(settings, tokenizer, unittest.mock.Mock(packing=False, max_length=1024), unittest.mock.Mock())
            self.assertEqual(settings.template, want)

    def test_prompts_are_turns_where_the_model_has_a_template(self):
        folder = self.folder("turns")
        with open(os.path.join(folder, "a.jsonl"), "w") as out:
            out.write(json.dumps({"prompt": "p", "completion": "c"}) + "\n")
        rows = training_data.load(folder, {})
        self.assertEqual(
            list(training_data.as_turns(rows)),
            [{"prompt": [{"role": "user", "content": "p"}], "completion": [{"role": "assistant", "content": "c"}]}],
        )

    def long_rows(self, name, prompts, **dataset):
        """Run with max_length 32 on rows of which the prompts have so many words."""
        folder = self.folder(name + "-data")
        with open(os.path.join(folder, "a.jsonl"), "w") as out:
            for words in prompts:
                row = {"messages": [{"role": "user", "content": " ".join(["Paris"] * words)}, {"role": "assistant", "content": "the sky is blue"}]}
                out.write(json.dumps(row) + "\n")
        config = configuration(num_train_epochs=1, max_length=32)
        config["dataset"].update(dataset)
        return Run(self.folder(name), config=config, data=folder).end()

    def test_answers_beyond_max_length_are_refused(self):
        run = self.long_rows("lost", [3, 3, 3, 100])
        self.assertEqual(run.code, report.EXIT_PERMANENT, run.stderr)
        self.assertEqual(run.message["reason"], "DatasetInvalid")
        for part in ("max_length is 32 tokens", "the first is row 4", "at most 10% of the rows", "max_truncated_answers"):
            self.assertIn(part, run.message["message"])

    def test_few_answers_beyond_max_length_are_left_out(self):
        run = self.long_rows("few", [3, 3, 3, 100], maxTruncatedAnswers=0.25)
        self.assertEqual(run.code, 0, run.stderr)
        self.assertEqual(run.message["train"]["totalSteps"], 1, "three rows, batches of 4")

    def test_columns_of_other_names_and_a_held_out_part(self):
        folder = self.folder("csv")
        with open(os.path.join(folder, "data.csv"), "w") as out:
            out.write("question,answer,noise\n" + "".join("what is %d,it is %d,x\n" % (n, n) for n in range(20)))
        config = configuration(num_train_epochs=1)
        config["dataset"].update(promptColumn="question", completionColumn="answer", trainFraction=0.8)
        run = Run(self.folder("columns"), config=config, data=folder).end()
        self.assertEqual(run.code, 0, run.stderr)
        self.assertEqual(run.message["train"]["totalSteps"], 4, "16 of 20 rows, batches of 4")

    def test_qlora_with_four_bits_stopped_and_resumed(self):
        config = configuration()
        config.update(method="qlora", quantization={"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_use_double_quant": True})
        whole = Run(self.folder("qlora-whole"), config=config, every=1000).end()
        self.assertEqual(whole.code, 0, whole.stderr)
        self.assertGreater(abs(whole.losses[1] - self.whole.losses[1]), 1e-4, "four bits are not the same model")
        work = self.folder("qlora")
        first = Run(work, config=config, every=1000)
        first.until(lambda l: l["train"]["step"] >= 3)
        first.process.send_signal(signal.SIGTERM)
        first.end()
        self.assertEqual(first.code, report.EXIT_PREEMPTED, first.stderr)
        second = Run(work, config=config, every=1000).end()
        self.assertEqual(second.code, 0, second.stderr)
        self.assertEqual(second.message["train"]["fromStep"], first.message["train"]["step"])
        self.assert_same_curve(first, second, whole=whole)
        self.assert_same_adapter(work, whole=whole)

    def test_progress_is_served(self):
        run = Run(self.folder("served"), port=PORT)
        seen = run.until(lambda l: l["train"]["step"] >= 2)
        with urllib.request.urlopen("http://127.0.0.1:%d/progress" % PORT, timeout=10) as answer:
            got = json.load(answer)
        run.process.kill()
        run.end()
        self.assertEqual(got["step"], "train")
        self.assertGreaterEqual(got["train"]["step"], seen["train"]["step"])
        self.assertEqual(got["train"]["totalSteps"], TOTAL)

    def test_two_ranks_by_the_launcher_stop_together(self):
        work = self.folder("ranks")
        launcher = [os.path.join(TRAINER, "launch.py"), "--nproc-per-node=2", "--max-restarts=0", "--standalone"]
        first = Run(work, every=1000, launcher=launcher)
        first.until(lambda l: l["train"]["step"] >= 2)
        first.process.send_signal(signal.SIGTERM)
        first.end()
        self.assertEqual(first.code, report.EXIT_PREEMPTED, first.stderr)
        at = first.message["train"]["step"]
        self.assertEqual(checkpoint.latest(os.path.join(work, "checkpoints"))[0], at)
        # Resuming is tested with one rank: with several, transformers 4.57 cannot restore an optimizer to a CPU.
        whole = Run(self.folder("ranks-whole"), launcher=launcher).end()
        self.assertEqual(whole.code, 0, whole.stderr)
        self.assertEqual(whole.message["train"]["step"], TOTAL / 2, "two ranks halve the steps")

    def test_a_permanent_failure_keeps_its_code_through_the_launcher(self):
        launcher = [os.path.join(TRAINER, "launch.py"), "--nproc-per-node=2", "--max-restarts=0", "--standalone"]
        run = Run(self.folder("launched"), config=configuration(leaning_rate=1), launcher=launcher).end()
        self.assertEqual(run.code, report.EXIT_PERMANENT, run.stderr)


class Configurations(unittest.TestCase):
    """The libraries accept each key of the operator's golden files."""

    def settings(self, config):
        return train.Settings({**dict.fromkeys(("KAITO_MODEL_DIR", "KAITO_DATA_DIR", "KAITO_ADAPTER_DIR", "KAITO_CHECKPOINT_DIR"), self.folder), "KAITO_TRAINING_CONFIG": json.dumps(config)})

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="kaito-trainer-")
        self.addCleanup(shutil.rmtree, self.folder)

    def test_each_golden_file_of_the_operator_is_taken(self):
        import torch
        from peft import LoraConfig

        golden = sorted(glob.glob(os.path.join(GOLDEN, "*.json")))
        self.assertGreaterEqual(len(golden), 5)
        for path in golden:
            with self.subTest(os.path.basename(path)):
                settings = self.settings(read(path)["config"])
                arguments = train.arguments(settings, torch.float32)
                for key, value in settings.config["trainer"].items():
                    self.assertEqual(getattr(arguments, key), value, key)
                lora = train.construct("LoraConfig", LoraConfig, settings.config["lora"])
                for key, value in settings.config["lora"].items():
                    got = getattr(lora, key)
                    self.assertEqual(sorted(got) if isinstance(got, set) else got, value, key)
                quantization = train.quantization(settings)
                self.assertEqual(quantization is not None, settings.config["method"] == "qlora")
                for key, value in settings.config.get("quantization", {}).items():
                    if key != "bnb_4bit_compute_dtype":  # depends on the device
                        self.assertEqual(getattr(quantization, key), value, key)

    def test_the_golden_file_with_the_most_keys_trains(self):
        config = read(os.path.join(GOLDEN, "renamed-and-unknown.json"))["config"]
        config["trainer"]["max_steps"] = 2
        model, data = os.path.join(self.folder, "model"), os.path.join(self.folder, "data")
        tiny.make_model(model)
        where = os.path.join(data, config["dataset"]["path"])
        os.makedirs(os.path.dirname(where))
        with open(where, "w") as out:
            out.write("question,answer\n" + "".join("what is %d,it is %d\n" % (n, n) for n in range(20)))
        run = Run(os.path.join(self.folder, "work"), config=config, data=data, model=model).end()
        self.assertEqual(run.code, 0, run.stderr)
        self.assertEqual(run.message["train"]["step"], 2)


class Messages(unittest.TestCase):
    def test_a_long_text_is_cut_to_what_the_kubelet_keeps(self):
        reporter = report.Reporter(speaks=False)
        reporter.update(step=3, loss=0.5)
        raw = reporter.result(failure=ValueError('ø"' * 5000))
        self.assertLessEqual(len(raw), report.MAX_MESSAGE_BYTES)
        message = json.loads(raw)
        self.assertEqual(message["train"]["loss"], 0.5)
        self.assertEqual(report.exit_code(raw), 1)

    def test_the_first_rank_to_fail_is_the_one_that_is_heard(self):
        with tempfile.NamedTemporaryFile() as file:
            report.write_result(b'{"a":1}', file.name, first=True)
            report.write_result(b'{"b":2}', file.name, first=True)
            self.assertEqual(file.read(), b'{"a":1}')


if __name__ == "__main__":
    unittest.main()
