"""Every way a spec can be wrong that we could think of, and the one line it earns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from orchestrator.errors import RequestError, SpecError
from orchestrator.placement.nodes import Node
from orchestrator.spec.loading import load_spec, resolve
from workloads.core.registry import Registry
from workloads.datasets.base import DATASETS
from workloads.defenses.base import DEFENSES
from workloads.inversion.attack import ATTACKS
from workloads.metrics.base import METRICS
from workloads.models.base import MODELS
from workloads.priors.base import PRIORS
from workloads.recipes.optimization import TrainingConfig


def kinds(registry: Registry[Any, Any]) -> str:
    """What a message lists as available: it grows with every component."""
    return ", ".join(registry.kinds())


VALID = """\
name: broken
data:
  private: {kind: digits, identities: ["0", "1"], image_size: 32}
  public: {kind: digits, identities: ["5", "6"], image_size: 32}
target:
  model: {kind: small_cnn, width: 4}
  training: {epochs: 1}
defenses:
  - {kind: random_erasing, min_area: 0.1, max_area: 0.4}
evaluation:
  model: {kind: small_cnn}
prior: {kind: wgan_gp, steps: 10}
attacks:
  - {kind: gmi, steps: 5, restarts: 5}
metrics: [{kind: natural_accuracy}, {kind: attack_accuracy}]
search:
  space:
    defenses.0.max_area: {kind: choice, values: [0.2, 0.5]}
  seeds: [0, 1]
resources:
  train_classifier: {cpus: 1}
"""
LAPTOP = Node("this machine", 2, (), 8.0)
PRIVATE = 'private: {kind: digits, identities: ["0", "1"], image_size: 32}'
PUBLIC = 'public: {kind: digits, identities: ["5", "6"], image_size: 32}'
SPACE = "defenses.0.max_area: {kind: choice, values: [0.2, 0.5]}"
CNN_FIELDS = "input_mean, input_size, input_std, kind, stages, weights, weights_digest, width"
TRAINING_FIELDS = ", ".join(sorted(TrainingConfig.model_fields))
ERASING_FIELDS = "boxes, fill, kind, location, max_area, max_aspect, min_area, min_aspect, probability"

SPEC_FIELDS = (
    "attacks, data, defenses, description, evaluation, floors, metrics, name, numerics, on_end, prior, resources, "
    "search, storage, target, tracking"
)

LONG = f"{{kind: choice, values: {list(range(250))}}}"

# What replaces what in VALID, and the line about it after "spec.yaml:".
MALFORMED = {
    # Names
    "unknown_model_field": ("width: 4", "widht: 4", "6: target.model.widht: unknown field. Did you mean 'width'? "
                            f"Fields: {CNN_FIELDS}."),
    "unknown_training_field": ("epochs: 1", "epoch: 1", "7: target.training.epoch: unknown field. "
                               f"Did you mean 'epochs'? Fields: {TRAINING_FIELDS}."),
    "unknown_defense_field": ("max_area: 0.4", "max_aria: 0.4", "9: defenses.0.max_aria: unknown field. "
                              f"Did you mean 'max_area'? Fields: {ERASING_FIELDS}."),
    "unknown_field_near_nothing": ("width: 4", "zzz: 4", f"6: target.model.zzz: unknown field. Fields: {CNN_FIELDS}."),
    "unknown_distribution_field": ("values: [0.2, 0.5]", "values: [0.2], value: 1",
                                   "18: search.space.defenses.0.max_area.value: unknown field. Did you mean 'values'? "
                                   "Fields: kind, values."),
    "unknown_resource_field": ("cpus: 1", "cpu: 1", "21: resources.train_classifier.cpu: unknown field. "
                               "Did you mean 'cpus'? Fields: cpus, gpu_memory_gb, gpus, memory_gb, timeout_s."),
    "bad_name": ("name: broken", "name: My Sweep", "1: name: must match ^[a-z0-9][a-z0-9_-]{0,63}$, got 'My Sweep'."),
    "bad_attack_name": ("gmi, steps", "gmi, name: G-M, steps",
                        "14: attacks.0.name: must match ^[a-z][a-z0-9_]*$, got 'G-M'."),
    # Kinds
    "unknown_dataset": ("public: {kind: digits", "public: {kind: digit", "4: data.public: unknown kind 'digit'. "
                        f"Did you mean 'digits'? Available: {kinds(DATASETS)}."),
    "unknown_model": ("small_cnn, width", "smal_cnn, width", "6: target.model: unknown kind 'smal_cnn'. "
                      f"Did you mean 'small_cnn'? Available: {kinds(MODELS)}."),
    "unknown_defense": ("random_erasing", "random_erase", "9: defenses.0: unknown kind 'random_erase'. "
                        f"Did you mean 'random_erasing'? Available: {kinds(DEFENSES)}."),
    "unknown_prior": ("wgan_gp", "wgan", "12: prior: unknown kind 'wgan'. Did you mean "
                      f"'wgan_gp'? Available: {kinds(PRIORS)}."),
    "unknown_attack": ("kind: gmi", "kind: gmii", "14: attacks.0: unknown kind 'gmii'. Did you mean 'gmi'? "
                       f"Available: {kinds(ATTACKS)}."),
    "unknown_metric": ("{kind: natural_accuracy}", "{kind: natural_acuracy}", "15: metrics.0: unknown kind "
                       f"'natural_acuracy'. Did you mean 'natural_accuracy'? Available: {kinds(METRICS)}."),
    "unknown_distribution": ("kind: choice", "kind: choices",
                             "18: search.space.defenses.0.max_area: unknown kind 'choices'. Did you mean 'choice'? "
                             "Available: choice, uniform, log_uniform, integer."),
    "missing_kind": ("kind: small_cnn, width", "width", "6: target.model: has no kind: add `kind:` with one of those "
                     "that `midre list` shows."),
    # Types
    "text_for_int": ("steps: 10", "steps: many", "12: prior.steps: must be a whole number, got 'many'."),
    "quoted_int": ("steps: 10", 'steps: "10"', "12: prior.steps: must be a whole number, got '10'. Leave out the "
                   "quotes."),
    "float_for_int": ("steps: 10", "steps: 10.5", "12: prior.steps: must be a whole number, got 10.5."),
    "bool_for_number": ("min_area: 0.1", "min_area: true", "9: defenses.0.min_area: must be a number, got True."),
    "bool_for_int": ("epochs: 1", "epochs: yes", "7: target.training.epochs: must be a whole number, got True."),
    "number_for_bool": ("epochs: 1", "nesterov: 1", "7: target.training.nesterov: must be true or false, got 1. "
                        "Write true."),
    "number_for_text": ("name: broken", "name: 5", "1: name: must be text, got 5. Put it in quotes: \"5\"."),
    "number_for_identity": ('["5", "6"]', '[5, "6"]', "4: data.public.identities.0: must be text, got 5. Put it in "
                            "quotes: \"5\"."),
    "list_for_mapping": ("{epochs: 1}", "[1]", "7: target.training: must be a mapping of fields, got [1]."),
    "text_for_list": ("[0, 1]", "none", "19: search.seeds: must be a list, got 'none'. YAML writes none as null; "
                      "or leave the field out."),
    "unknown_word": ("epochs: 1", "schedule: cosin", "7: target.training.schedule: must be one of 'constant', "
                     "'cosine', 'step' or 'one_cycle', got 'cosin'. Did you mean 'cosine'?"),
    # Ranges
    "area_above_one": ("max_area: 0.4", "max_area: 1.5", "9: defenses.0.max_area: must be at most 1, got 1.5."),
    "negative_area": ("min_area: 0.1", "min_area: -0.1", "9: defenses.0.min_area: must be at least 0, got -0.1."),
    "min_area_above_max": ("min_area: 0.1", "min_area: 0.6", "9: defenses.0: min_area 0.6 is above max_area 0.4: "
                           "lower min_area or raise max_area."),
    "aspect_below_one": ("min_area: 0.1", "max_aspect: 0.5", "9: defenses.0: max_aspect 0.5 is below 1: raise it to 1 "
                         "or more, or give min_aspect too."),
    "negative_lr": ("epochs: 1", "lr: -0.1", "7: target.training.lr: must be above 0, got -0.1."),
    "no_steps": ("steps: 10", "steps: 0", "12: prior.steps: must be above 0, got 0."),
    "batch_of_one": ("epochs: 1", "batch_size: 1", "7: target.training.batch_size: must be at least 2, got 1."),
    "momentum_of_one": ("epochs: 1", "momentum: 1.0", "7: target.training.momentum: must be below 1, got 1.0."),
    "nan": ("epochs: 1", "lr: .nan", "7: target.training.lr: must be a finite number, got nan."),
    "infinite": ("epochs: 1", "lr: .inf", "7: target.training.lr: must be a finite number, got inf."),
    "keep_above_restarts": ("restarts: 5", "restarts: 5, keep: 6", "14: attacks.0: keep 6 is above the 5 made of each "
                            "identity: lower it or make more."),
    "two_channels": ("image_size: 32}\n  public", "channels: 2}\n  public",
                     "3: data.private.channels: must be one of 1 or 3, got 2."),
    "no_attacks": ("  - {kind: gmi, steps: 5, restarts: 5}", "  []", "13: attacks: needs at least 1 item, got 0."),
    "no_seeds": ("[0, 1]", "[]", "19: search.seeds: needs at least 1 item, got 0."),
    "no_values": ("[0.2, 0.5]", "[]", "18: search.space.defenses.0.max_area.values: needs at least 1 item, got 0."),
    "no_identities": ('["5", "6"]', "[]", "4: data.public.identities: needs at least 1 item, got 0."),
    "resources_in_a_word": ("  train_classifier: {cpus: 1}", "  train_classifier: many",
                            "21: resources.train_classifier: must be a mapping of fields, got 'many'."),
    "fractional_gpus_above_one": ("cpus: 1", "gpus: 1.5", "21: resources.train_classifier.gpus: 1.5 GPUs: above one "
                                  "only whole GPUs can be had."),
    "identity_twice": ('["0", "1"]', '["0", "1", "1"]', "3: data.private.identities: '1' is named twice: name each "
                       "identity once."),
    "seed_beyond_64_bits": ("[0, 1]", "[9223372036854775808]", "19: search.seeds: [9223372036854775808] has one below "
                            "0 or beyond 63 bits: take others."),
    "nesterov_without_momentum": ("epochs: 1", "nesterov: true, momentum: 0.0", "7: target.training: nesterov needs a "
                                  "momentum above 0: raise it, or leave nesterov out."),
    "password_of_mlflow": ("search:\n", "tracking: {uri: 'http://bob:hunter2@host'}\nsearch:\n", "16: tracking.uri: "
                           "holds a password, which would be stored with the results: put it into "
                           "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."),
    "password_of_the_store": ("search:\n", "storage: {artifacts: 's3://key:hunter2@bucket'}\nsearch:\n",
                              "16: storage.artifacts: holds a password, which would be stored with the results: put it "
                              "into environment variables, such as AWS_ACCESS_KEY_ID and "
                              "AWS_SECRET_ACCESS_KEY."),
    "store_of_no_kind": ("search:\n", "storage: {artifacts: 'foo://bucket'}\nsearch:\n", "16: storage.artifacts: "
                         "foo:// cannot be opened: take a folder, or one of abfs, abfss, file, gcs, gs, hdfs, s3."),
    "battery_inside_another": ("{kind: gmi, steps: 5, restarts: 5}", "{kind: ppdgmi, host: {kind: battery, attacks: "
                               "[{kind: gmi}, {kind: gmi, name: again}]}}", "14: attacks.0.host: battery runs several "
                               "attacks, which none can wrap: wrap one of those."),
    # Sections and search
    "no_prior": ("prior: {kind: wgan_gp, steps: 10}\n", "", "13: attacks.0: gmi needs a prior: give one to the attack "
                 "or the spec, for example prior: {kind: wgan_gp}."),
    "missing_section": ("evaluation:\n  model: {kind: small_cnn}\n", "", "1: evaluation: is missing: add it."),
    "missing_model": ("  model: {kind: small_cnn}", "  training: {epochs: 1}", "10: evaluation.model: is missing: "
                      "add it."),
    "missing_path": (PUBLIC, "public: {kind: parquet}", "4: data.public.path: is missing: add it."),
    "attacks_twice": ("restarts: 5}", "restarts: 5}\n  - {kind: gmi}", "15: attacks.1: 'gmi' is there already: "
                      "remove it or set its name."),
    "metrics_twice": ("{kind: attack_accuracy}", "{kind: natural_accuracy}", "15: metrics.1: 'natural_accuracy' is "
                      "there already: remove it."),
    "seeds_repeated": ("[0, 1]", "[0, 0]", "19: search.seeds: [0, 0] repeats one: each is trained once."),
    "grid_with_uniform": ("{kind: choice, values: [0.2, 0.5]}", "{kind: uniform, low: 0.2, high: 0.5}",
                          "18: search.space.defenses.0.max_area: sampler grid needs lists of values, but this is "
                          "uniform: use kind: choice, or sampler random or tpe."),
    "low_above_high": ("{kind: choice, values: [0.2, 0.5]}", "{kind: uniform, low: 0.5, high: 0.2}",
                       "18: search.space.defenses.0.max_area: low 0.5 is not below high 0.2."),
    "low_at_high": ("{kind: choice, values: [0.2, 0.5]}", "{kind: uniform, low: 0.2, high: 0.2}",
                    "18: search.space.defenses.0.max_area: low 0.2 is not below high 0.2."),
    "integers_out_of_order": ("{kind: choice, values: [0.2, 0.5]}", "{kind: integer, low: 5, high: 2}",
                              "18: search.space.defenses.0.max_area: low 5 is above high 2."),
    "logarithm_of_nothing": ("{kind: choice, values: [0.2, 0.5]}", "{kind: log_uniform, low: 0, high: 2}",
                             "18: search.space.defenses.0.max_area.low: must be above 0, got 0."),
    "unknown_goal": ("  seeds: [0, 1]", "  objectives: [{metric: natural_accuracy, goal: most}]",
                     "19: search.objectives.0.goal: must be one of 'max' or 'min', got 'most'."),
    "sampler_without_points": ("  seeds: [0, 1]", "  sampler: {kind: random}",
                               "19: search.sampler.points: is missing: add it."),
    # From other libraries, and from Python
    "trials_of_a_sampler": ("  seeds: [0, 1]", "  sampler: {kind: random, n_trials: 5, points: 5}",
                            "19: search.sampler.n_trials: unknown field. Did you mean 'points'? Fields: kind, points, "
                            "seed."),
    "learning_rate": ("epochs: 1", "learning_rate: 0.1", "7: target.training.learning_rate: unknown field. "
                      f"Did you mean 'lr'? Fields: {TRAINING_FIELDS}."),
    "batchsize": ("epochs: 1", "batchsize: 8", "7: target.training.batchsize: unknown field. "
                  f"Did you mean 'batch_size'? Fields: {TRAINING_FIELDS}."),
    "minimize": ("  seeds: [0, 1]", "  objectives: [{metric: natural_accuracy, goal: maximize}]",
                 "19: search.objectives.0.goal: must be one of 'max' or 'min', got 'maximize'. Did you mean 'max'?"),
    "section_of_another": ("name: broken", "name: broken\nsampler: {kind: grid}", "2: sampler: unknown field. search "
                           f"has one. Fields: {SPEC_FIELDS}."),
    "per_cent": ("max_area: 0.4", "max_area: 40", "9: defenses.0.max_area: must be at most 1, got 40. 40 % is 0.4."),
    "number_for_a_list": ("seeds: [0, 1]", "seeds: 3", "19: search.seeds: must be a list, got 3. For a list of one: "
                          "[3]."),
    "tuple": ("seeds: [0, 1]", "seeds: (0, 1)", "19: search.seeds: must be a list, got '(0, 1)'. In YAML: [0, 1]."),
    "none": ("epochs: 1", "epochs: None", "7: target.training.epochs: must be a whole number, got 'None'. YAML writes "
             "none as null; or leave the field out."),
    "quoted_number": ("epochs: 1", "epochs: '1'", "7: target.training.epochs: must be a whole number, got '1'. Leave "
                      "out the quotes."),
    "float_for_a_count": ("epochs: 1", "epochs: 1e1", "7: target.training.epochs: must be a whole number, got 10.0. "
                          "Write 10."),
    # Absurd
    "age_of_the_universe": ("epochs: 1", "epochs: 100000000", "7: target.training.epochs: must be at most 100000, got "
                            "100000000."),
    "batch_beyond_memory": ("epochs: 1", "batch_size: 1000000000", "7: target.training.batch_size: must be at most "
                            "65536, got 1000000000."),
    "ten_million_points": ("  seeds: [0, 1]", "  sampler: {kind: random, points: 10000000}", "19: search.sampler.points"
                           ": must be at most 100000, got 10000000."),
    "endless_grid": ("  seeds: [0, 1]", f"    defenses.0.boxes: {LONG}\n    defenses.0.probability: {LONG}", "17: "
                     "search.space: 125000 combinations of values are more than 100000: list fewer."),
    "objective_twice": ("  seeds: [0, 1]", "  objectives: [{metric: natural_accuracy, goal: max}, {metric: "
                        "natural_accuracy, goal: min}]", "19: search.objectives.1: 'natural_accuracy' is an objective "
                        "already: remove one."),
    # YAML
    "duplicate_key": ("prior:", "target:", "12: 'target' is given twice: remove one."),
    "duplicate_nested_key": ("width: 4", "width: 4, width: 8", "6: 'width' is given twice: remove one."),
    "object_tag": ("name: broken", "name: !!python/object/apply:os.system [echo]", "1: the tag "
                   "'!!python/object/apply:os.system' would build an object: a spec holds plain data "
                   "only."),
    "object_tag_on_mapping": ("{kind: wgan_gp", "!!python/object:os.Thing {kind: wgan_gp", "12: the tag "
                              "'!!python/object:os.Thing' would build an object: a spec holds plain "
                              "data only."),
    "own_tag": ("name: broken", "name: !env HOME", "1: the tag '!env' would build an object: a spec holds plain data "
                "only."),
    "tab": ("  model: {kind: small_cnn, width: 4}", "\tmodel: 1",
            "6: not valid YAML: a tab: YAML indents with blanks."),
    "unclosed": ("steps: 10}", "steps: 10", "13: not valid YAML: expected ',' or '}', but got ':'."),
    "list_as_name": ("name: broken", "[a, b]: broken", "1: a field name must be a word, not a list or a mapping."),
    "merge_key": ("{kind: small_cnn}", "{<<: {kind: small_cnn}}", "11: merge keys (<<) are not supported: write the "
                  "fields out."),
    "unknown_alias": ("name: broken", "name: *other", "1: not valid YAML: found undefined alias 'other'."),
    "second_document": ("target:\n", "---\ntarget:\n", "5: not valid YAML: but found another document."),
}  # fmt: skip

# As above, for specs that are well formed but cannot work.
INCONSISTENT = {
    "student_for_larger_images": ("metrics: [", "metrics: [{kind: knowledge_extraction, student: {kind: maxvit_t}}, ",
                                  "15: metrics.0: maxvit_t cuts images into 7 windows at every stage, got 32: set "
                                  "image_size to 224."),
    "one_identity_to_tell_apart": ("5}\nmetrics: [", "5, identities: 1}\nmetrics: [{kind: knowledge_extraction}, ",
                                   "15: metrics.0: needs 2 identities to tell apart, but gmi attacks 1: attack more."),
    "overlapping_identities": ('["5", "6"]', '["1", "6"]', "4: data.public.identities: '1' is private too: what the "
                               "attacker has must not hold what must not leak."),
    "identity_not_in_data": ('["0", "1"]', '["0", "ten"]', "3: data.private.identities: digits has no 'ten'. "
                             "Available: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9."),
    "one_private_identity": ('["0", "1"]', '["0"]', "3: data.private.identities: has 1 identity: a classifier needs at "
                             "least 2."),
    "image_size_differs": ('"6"], image_size: 32', '"6"], image_size: 64', "4: data.public.image_size: is 64 but "
                           "data.private.image_size is 32: make them equal."),
    "channels_differ": ('"6"], image_size: 32', '"6"], channels: 3', "4: data.public.channels: is 3 but "
                        "data.private.channels is 1: make them equal."),
    "missing_parquet": (PRIVATE, "private: {kind: parquet, path: faces.parquet, channels: 1}", "3: data.private.path: "
                        "no Parquet file at FOLDER/faces.parquet: give a .parquet file or a folder that holds some."),
    "not_parquet": (PRIVATE, "private: {kind: parquet, path: spec.yaml, channels: 1}",
                    "3: data.private.path: FOLDER/spec.yaml is not a Parquet file: Parquet magic bytes not found in "
                    "footer. Either the file is corrupted or this is not a parquet file."),
    "missing_column": (PRIVATE, "private: {kind: parquet, path: table.parquet, label_column: who, channels: 1}",
                       "3: data.private.label_column: FOLDER/table.parquet has no column 'who'. Columns: image, "
                       "identity, weight."),
    "float_labels": (PRIVATE, "private: {kind: parquet, path: table.parquet, label_column: weight, channels: 1}",
                     "3: data.private.label_column: 'weight' holds double, but labels must be integers or strings."),
    "text_images": (PRIVATE, "private: {kind: parquet, path: table.parquet, image_column: identity, channels: 1}",
                    "3: data.private.image_column: 'identity' holds string, but images must be binary."),
    "missing_folder": (PRIVATE, "private: {kind: image_folder, path: faces, channels: 1}", "3: data.private.path: no "
                       "folder at FOLDER/faces: give the folder whose sub-folders are the identities."),
    "empty_folder": (PRIVATE, "private: {kind: image_folder, path: nothing, channels: 1}", "3: data.private.path: "
                     "FOLDER/nothing has no sub-folder with images (.apng, .avif, .bmp, .gif, .jfif, .jp2, "
                     ".jpe, .jpeg, .jpg, .mpo, .pbm, .pgm, .png, .pnm, .ppm, .tga, .tif, .tiff, .webp). It holds 1 "
                     "folder without images."),
    "colour_fill_on_grey": ("min_area: 0.1", "fill: official", "9: defenses.0: fill 'official' has 3 channels but the "
                            "images have 1: set fill to mean."),
    "too_many_cpus": ("cpus: 1", "cpus: 3", "21: resources.train_classifier.cpus: needs 3, but the largest of 1 node "
                      "has 2: lower it or add a node."),
    "too_many_gpus": ("cpus: 1", "gpus: 2", "21: resources.train_classifier.gpus: needs 2, but the largest of 1 node "
                      "has 0: lower it or add a node."),
    "too_much_memory": ("cpus: 1", "memory_gb: 9", "21: resources.train_classifier.memory_gb: needs 9, but the largest "
                        "of 1 node has 8: lower it or add a node."),
    "objective_of_nobody": ("  seeds: [0, 1]", "  objectives: [{metric: natural_acuracy, goal: max}]",
                            "19: search.objectives.0.metric: nothing computes 'natural_acuracy'. Did you mean "
                            "'natural_accuracy'? Available: natural_accuracy, gmi.attack_accuracy."),
    "too_few_reconstructions": ("{kind: attack_accuracy}]", "{kind: attack_accuracy}, {kind: prdc}]", "15: metrics.2: "
                                "needs 4 reconstructions of each identity, but gmi keeps 1: raise its keep."),
    "too_few_private_images": ("restarts: 5}\nmetrics: [", "restarts: 200, keep: 200}\nmetrics: [{kind: prdc, k: 142},",
                               "15: metrics.0: needs 143 training images of each identity, but '0' has 142: lower its "
                               "k, or leave out identities with few."),  # 36 of 178 are held out
    "single_image": ("\"1\"], image_size: 32}", "\"1\"], image_size: 32, max_per_identity: 1}",
                     "3: data.private.identities: '0' and 1 more have a single image: one has to train and another to "
                     "measure, name the rest."),
    "no_attack_metric": ("[{kind: natural_accuracy}, {kind: attack_accuracy}]", "[{kind: natural_accuracy}]",
                         "15: metrics: has none like attack_accuracy: every trial is measured on both sides of the "
                         "trade, add it."),
    "search_of_nothing": (SPACE, "defenses.0.max_aria: {kind: choice, values: [0.2]}",
                          "18: search.space.defenses.0.max_aria: names no field: defenses.0 has kind, probability, "
                          "min_area, max_area, max_aspect, min_aspect, boxes, fill, location, not 'max_aria'. Did you "
                          "mean 'max_area'?"),
    "search_of_missing_defense": (SPACE, "defenses.1.max_area: {kind: choice, values: [0.2]}",
                                  "18: search.space.defenses.1.max_area: names no field: defenses has 0, not '1'."),
    "search_of_resources": (SPACE, "resources.train_classifier.cpus: {kind: choice, values: [1, 2]}",
                            "18: search.space.resources.train_classifier.cpus: cannot be searched: only data, "
                            "defenses, target can."),
    "search_of_preset": (SPACE, "target.training.protocol: {kind: choice, values: [lr_64]}",
                         "18: search.space.target.training.protocol: cannot be searched: it fills in other fields as "
                         "the spec is read. Search target.training, whole."),
    "search_value_refused": ("[0.2, 0.5]", "[0.2, 1.5]", "18: search.space.defenses.0.max_area: the value 1.5 is "
                             "refused: must be at most 1, got 1.5."),
    "search_value_below_another": ("[0.2, 0.5]", "[0.05, 0.5]", "18: search.space.defenses.0.max_area: the value "
                                   "0.05 is refused: min_area 0.1 is above max_area 0.05: lower min_area or raise "
                                   "max_area."),
    "search_of_whom_to_attack": (SPACE, 'data.public.identities: {kind: choice, values: [["5"], ["0"]]}',
                                 "18: search.space.data.public.identities: the value ['0'] is refused: "
                                 "data.public.identities: '0' is private too: what the attacker has must not hold what "
                                 "must not leak."),
    "search_of_one_image_size": (SPACE, "data.private.image_size: {kind: choice, values: [64]}",
                                 "18: search.space.data.private.image_size: the value 64 is refused: "
                                 "data.public.image_size: is 32 but data.private.image_size is 64: make them equal."),
    "search_of_a_data_set": (SPACE, "data.public: {kind: choice, values: [{kind: avatars}]}",
                             "18: search.space.data.public: cannot be searched: images are read once for all trials: "
                             "search a field of them, such as data.private.max_per_identity."),
    "search_of_a_kind_of_data": (SPACE, "data.public.kind: {kind: choice, values: [avatars]}",
                                 "18: search.space.data.public.kind: cannot be searched: it says which images there "
                                 "are, and these are read once for all trials."),
    **{f"search_of_{path}": (SPACE, f"{path}: {{kind: choice, values: [1, 80]}}",
                             f"18: search.space.{path}: cannot be searched: points are compared under one attack, one "
                             "judge and one prior: list attacks side by side, or run a spec for each value.")
       for path in ("attacks.0.steps", "evaluation.training.epochs", "prior.steps", "metrics")},
    "search_inside_what_is_searched": (SPACE, f"defenses: {{kind: choice, values: [[]]}}\n    {SPACE}",
                                       "19: search.space.defenses.0.max_area: cannot be searched beside defenses, "
                                       "which replaces it: leave one of them out."),
    "search_values_that_clash": (SPACE, "defenses.0.min_area: {kind: choice, values: [0.1, 0.3]}\n    "
                                 "defenses.0.max_area: {kind: choice, values: [0.5, 0.2]}",
                                 "17: search.space: defenses.0.min_area 0.3, defenses.0.max_area 0.2 do not go "
                                 "together: min_area 0.3 is above max_area 0.2: lower min_area or raise max_area."),
    "width_beyond_memory": ("small_cnn, width: 4", "small_cnn, width: 1000000000000",
                            "6: target.model: cannot be built: Storage size calculation overflowed with "
                            "sizes=[2000000000000, 1000000000000, 3, 3]."),
    "battery_of_too_many": ("{kind: gmi, steps: 5, restarts: 5}",
                            "{kind: battery, name: gmi, identities: 3, attacks: [{kind: gmi}, {kind: gmi, name: b}]}",
                            "14: attacks.0: identities: gmi attacks 3 classes, but the target model has "
                            "2: lower it or leave it out."),
}  # fmt: skip

# Bytes of a whole file, and the line they earn after "spec.yaml".
UNREADABLE = {
    "empty": (b"", ": the file is empty: start from specs/quickstart.yaml."),
    "comment_only": (b"# nothing yet\n", ": the file is empty: start from specs/quickstart.yaml."),
    "list": (b"- name\n- data\n", ":1: a spec is a mapping of fields, like `name: my-sweep`."),
    "word": (b"quickstart\n", ":1: a spec is a mapping of fields, like `name: my-sweep`."),
    "not_utf8": ("name: caf\u00e9".encode("latin-1"), ": not UTF-8 at byte 9: save the file as UTF-8."),
    "laughs": (
        ("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))).encode(),
        ": more than 20000 values once its aliases are followed: write it out.",
    ),
    "giggles": (
        ("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 5))).encode(),
        ": more than 20000 values once its aliases are followed: write it out.",
    ),
    "list_inside_itself": (b"a: &a [*a]\n", ": values are nested too deeply: write it flatter."),
    "sixty_lists": (b"a: " + b"[" * 60 + b"]" * 60, ": values are nested too deeply: write it flatter."),
    "thousand_lists": (b"a: " + b"[" * 5000, ": values are nested too deeply: write it flatter."),
}

# What --set says, and the line it earns.
OVERRIDES = {
    "path_of_no_section": ("targt.model.width=8", "--set targt.model.width=8: targt: unknown field. Did you mean "
                           f"'target'? Fields: {SPEC_FIELDS}."),
    "path_into_a_number": ("prior.steps.more=8", "--set prior.steps.more=8: prior.steps.more: names no field: "
                           "prior.steps has no fields, not 'more'."),
    "path_of_missing_item": ("defenses.3={}", "--set defenses.3={}: defenses.3: names no field: defenses has 0, not "
                             "'3'."),
    "object": ("description=!!set {a}", "--set description=!!set {a}: not a YAML value: '!!set {a}'."),
    "list_inside_itself": ("description=&a [*a]", "--set description=&a [*a]: not a YAML value: '&a [*a]'."),
    "not_yaml": ("prior.steps=[1", "--set prior.steps=[1: not a YAML value: '[1'."),
    "unknown_field": ("target.model.widht=8", "--set target.model.widht=8: target.model.widht: unknown field. Did you "
                      f"mean 'width'? Fields: {CNN_FIELDS}."),
    "wrong_type": ("prior.steps=many", "--set prior.steps=many: prior.steps: must be a whole number, got 'many'."),
    "wrong_item": ("attacks+={kind: gmi, steps: 0, name: b}", "--set attacks+={kind: gmi, steps: 0, name: b}: "
                   "attacks.1.steps: must be above 0, got 0."),
    "append_to_no_list": ("prior+=1", "--set prior+=1: prior: names no field: prior is no list: set it with =."),
    "delete_nothing": ("prio-", "--set prio-: prio: names no field: the spec has name, data, target, defenses, "
                       "evaluation, prior, attacks, metrics, search, resources, not 'prio'. Did you mean 'prior'?"),
    "delete_what_must_be": ("data.public-", "spec.yaml:2: data.public: is missing: add it."),
    "quoted_key": ('search.space["defenses.0.max_area"].values=[2]', '--set search.space["defenses.0.max_area"].values='
                   "[2]: search.space.defenses.0.max_area: the value 2 is refused: must be at most 1, got 2."),
}  # fmt: skip


def refusal(folder: Path, text: str | bytes, overrides: Sequence[str] = ()) -> str:
    """The message a spec earns, with its folder written FOLDER."""
    file = folder / "spec.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SpecError) as caught:
        spec, source = load_spec(file, overrides=overrides)
        resolve(spec, source, nodes=[LAPTOP])
    return str(caught.value).replace(f"{folder}/spec.yaml:", "spec.yaml:", 1).replace(str(folder), "FOLDER")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    table = pa.table({"image": [b"x"], "identity": ["anna"], "weight": [0.5]})
    parquet.write_table(table, tmp_path / "table.parquet")
    (tmp_path / "nothing" / "anna").mkdir(parents=True)
    return tmp_path


def edited(old: str, new: str) -> str:
    assert VALID.count(old) == 1, f"{old!r} must be in the spec once"
    return VALID.replace(old, new)


def test_the_spec_that_is_broken_below_is_valid(folder: Path) -> None:
    (folder / "spec.yaml").write_text(VALID)
    spec, source = load_spec(folder / "spec.yaml")
    assert resolve(spec, source, nodes=[LAPTOP]).spec.name == "broken"


@pytest.mark.parametrize(("old", "new", "line"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_spec_is_refused_in_one_line(folder: Path, old: str, new: str, line: str) -> None:
    assert refusal(folder, edited(old, new)) == f"spec.yaml:{line}"


@pytest.mark.parametrize(("old", "new", "line"), INCONSISTENT.values(), ids=INCONSISTENT)
def test_a_spec_that_cannot_work_is_refused_in_one_line(folder: Path, old: str, new: str, line: str) -> None:
    assert refusal(folder, edited(old, new)) == f"spec.yaml:{line}"


@pytest.mark.parametrize(("data", "line"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_that_is_no_spec_is_refused_in_one_line(folder: Path, data: bytes, line: str) -> None:
    assert refusal(folder, data) == f"spec.yaml{line}"


@pytest.mark.parametrize(("text", "line"), OVERRIDES.values(), ids=OVERRIDES)
def test_a_broken_override_is_refused_in_one_line(folder: Path, text: str, line: str) -> None:
    assert refusal(folder, VALID, [text]) == line


def test_an_override_appends_and_leaves_out(folder: Path) -> None:
    (folder / "spec.yaml").write_text(VALID)
    texts = [
        "attacks+={kind: gmi, name: long, steps: 7}",
        "attacks.0-",
        "search.space[defenses.0.max_area].values+=0.3",
    ]
    spec, _ = load_spec(folder / "spec.yaml", overrides=[*texts, "description='a=b'", "search.seeds-"])
    assert [attack.label for attack in spec.attacks] == ["long"]
    assert spec.search.space["defenses.0.max_area"].extremes() == (0.2, 0.5, 0.3)
    assert (spec.description, spec.search.seeds) == ("a=b", (0,))


def test_after_an_item_is_left_out_problems_are_told_at_the_lines_of_the_others(folder: Path) -> None:
    text = edited("  - {kind: gmi, steps: 5, restarts: 5}", "  - {kind: gmi}\n  - {kind: gmi, name: b, steps: 0}")
    assert refusal(folder, text, ["attacks.0-"]) == "spec.yaml:15: attacks.0.steps: must be above 0, got 0."


def test_files_that_an_override_names_are_relative_to_the_shell(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (folder / "spec.yaml").write_text(VALID)
    spec, _ = load_spec(folder / "spec.yaml", overrides=["data.public={kind: parquet, path: table.parquet}"])
    assert spec.plain()["data"]["public"]["path"] == str(elsewhere / "table.parquet")


@pytest.mark.parametrize("text", ["prior.steps", "=5", "a..b=1", "a[b=1", ""])
def test_an_override_of_no_form_is_refused_with_the_forms(folder: Path, text: str) -> None:
    (folder / "spec.yaml").write_text(VALID)
    with pytest.raises(RequestError, match=r"PATH=VALUE sets a field, PATH\+=VALUE appends"):
        load_spec(folder / "spec.yaml", overrides=[text])


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.0e-3", ".1e-2", "0.001"])
def test_a_number_may_be_written_in_any_way_that_numbers_are(folder: Path, text: str) -> None:
    (folder / "spec.yaml").write_text(edited("epochs: 1", f"lr: {text}"))
    for overrides in ([], [f"target.training.lr={text}"]):
        spec, _ = load_spec(folder / "spec.yaml", overrides=overrides)
        assert spec.plain()["target"]["training"]["lr"] == 0.001


def test_a_date_is_text_in_an_override_as_in_a_file(folder: Path) -> None:
    (folder / "spec.yaml").write_text(VALID)
    assert load_spec(folder / "spec.yaml", overrides=["description=2024-99-99"])[0].description == "2024-99-99"


def test_a_missing_file_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path}/none.yaml: no such file: give the path of a spec."


def test_a_folder_in_place_of_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path)
    rule = "a folder, where a spec is asked for: `midre new --data"
    assert str(caught.value) == f"{tmp_path}: {rule} {tmp_path}` writes one for images in it."


def test_a_prior_that_cannot_make_the_size_is_refused_at_its_line(folder: Path) -> None:
    line = "12: prior: wgan_gp makes images of 32 or 64 pixels, not 48: set image_size to one of them."
    assert refusal(folder, VALID.replace("image_size: 32", "image_size: 48")) == f"spec.yaml:{line}"


def test_a_model_that_cannot_take_the_size_is_refused_beside_the_prior(folder: Path) -> None:
    text = VALID.replace("image_size: 32", "image_size: 16").replace("{kind: small_cnn}", "{kind: vgg16_bn}")
    assert refusal(folder, text).splitlines() == [
        "spec.yaml:11: evaluation.model: vgg16_bn halves the image five times and needs 32 pixels or more, got 16.",
        "FOLDER/spec.yaml:12: prior: wgan_gp makes images of 32 or 64 pixels, not 16: set image_size to one of them.",
    ]


def test_people_in_a_folder_and_in_a_table_are_told_by_their_names(folder: Path) -> None:
    (folder / "nothing" / "anna" / "portrait.png").touch()
    (folder / "nothing" / "bob").mkdir()
    (folder / "nothing" / "bob" / "portrait.png").touch()
    text = edited(PRIVATE, "private: {kind: image_folder, path: nothing}")
    text = text.replace(PUBLIC, "public: {kind: parquet, path: table.parquet}")
    line = "4: data.public.identities: 'anna' is private too: what the attacker has must not hold what must not leak."
    assert refusal(folder, text) == f"spec.yaml:{line}"


def test_the_path_of_a_data_set_cannot_be_searched(folder: Path) -> None:
    """All trials read the images whose digest was taken when the spec was resolved."""
    for name in ("anna", "bob"):
        (folder / "nothing" / name).mkdir(exist_ok=True)
        for number in range(2):
            Image.new("L", (32, 32)).save(folder / "nothing" / name / f"{number}.png")
    text = edited(PRIVATE, "private: {kind: image_folder, path: nothing, channels: 1, image_size: 32}")
    text = text.replace(SPACE, "data.private.path: {kind: choice, values: [elsewhere]}")
    assert refusal(folder, text) == (
        "spec.yaml:18: search.space.data.private.path: cannot be searched: it says which images there are, and these "
        "are read once for all trials."
    )


def test_a_misspelt_section_is_reported_as_unknown_and_as_missing(folder: Path) -> None:
    assert refusal(folder, edited("evaluation:", "evalution:")).splitlines() == [
        "spec.yaml:1: evaluation: is missing: add it.",
        f"FOLDER/spec.yaml:10: evalution: unknown field. Did you mean 'evaluation'? Fields: {SPEC_FIELDS}.",
    ]


def test_all_problems_of_a_malformed_file_are_reported_together_in_the_order_of_their_lines(folder: Path) -> None:
    text = edited("steps: 10", "steps: many").replace("max_area: 0.4", "max_area: 1.5").replace("cpus: 1", "cpu: 1")
    assert refusal(folder, text).splitlines() == [
        "spec.yaml:9: defenses.0.max_area: must be at most 1, got 1.5.",
        "FOLDER/spec.yaml:12: prior.steps: must be a whole number, got 'many'.",
        "FOLDER/spec.yaml:21: resources.train_classifier.cpu: unknown field. Did you mean 'cpus'? "
        "Fields: cpus, gpu_memory_gb, gpus, memory_gb, timeout_s.",
    ]


def test_all_problems_of_a_spec_that_cannot_work_are_reported_together(folder: Path) -> None:
    text = edited('["5", "6"]', '["1", "6"]').replace("cpus: 1", "cpus: 3, memory_gb: 9")
    assert refusal(folder, text).splitlines() == [
        "spec.yaml:4: data.public.identities: '1' is private too: what the attacker has must not hold what must not "
        "leak.",
        "FOLDER/spec.yaml:21: resources.train_classifier.cpus: needs 3, but the largest of 1 node has 2: lower it or "
        "add a node.",
        "FOLDER/spec.yaml:21: resources.train_classifier.memory_gb: needs 9, but the largest of 1 node has 8: lower it "
        "or add a node.",
    ]


def test_a_refused_spec_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refusal(tmp_path, edited("cpus: 1", "cpus: 3"))
    assert [entry.name for entry in tmp_path.rglob("*")] == ["spec.yaml"]


def test_resources_are_not_checked_where_no_nodes_are_known(folder: Path) -> None:
    (folder / "spec.yaml").write_text(edited("cpus: 1", "cpus: 3"))
    spec, source = load_spec(folder / "spec.yaml")
    assert resolve(spec, source, nodes=None).spec.resources.train_classifier.cpus == 3
