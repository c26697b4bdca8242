"""Training: the loop, evaluation, generation, model files, and the Trainer on top."""

from .build import make_model as make_model
from .build import make_optimizer as make_optimizer
from .build import make_schedule as make_schedule
from .build import stream as stream
from .evaluation import Evaluation as Evaluation
from .evaluation import Evaluator as Evaluator
from .evaluation import evaluate as evaluate
from .evaluation import perplexity as perplexity
from .files import RunFiles as RunFiles
from .files import save_curve as save_curve
from .generation import generate as generate
from .loop import EpochResult as EpochResult
from .loop import Window as Window
from .loop import train_epoch as train_epoch
from .modelfile import SavedModel as SavedModel
from .modelfile import load_model as load_model
from .modelfile import save_model as save_model
from .records import EpochRecord as EpochRecord
from .records import RunResult as RunResult
from .stepper import Stepper as Stepper
from .trainer import Trainer as Trainer
