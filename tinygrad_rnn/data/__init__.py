"""Data: numeric sequences, and texts for language models, cut into mini-batches."""

from tinygrad_rnn.data.arrays import pad_sequences as pad_sequences
from tinygrad_rnn.data.batches import OffsetBatches as OffsetBatches
from tinygrad_rnn.data.batching import Batch as Batch
from tinygrad_rnn.data.batching import Batches as Batches
from tinygrad_rnn.data.corpus import Corpus as Corpus
from tinygrad_rnn.data.corpus import load_corpus as load_corpus
from tinygrad_rnn.data.corpus import unigram_nats as unigram_nats
from tinygrad_rnn.data.ngrams import NGrams as NGrams
from tinygrad_rnn.data.prepare import prepare_corpus as prepare_corpus
from tinygrad_rnn.data.sequences import Sequences as Sequences
from tinygrad_rnn.data.sequences import group_rows as group_rows
from tinygrad_rnn.data.sequences import sliding_windows as sliding_windows
from tinygrad_rnn.data.text import EOS as EOS
from tinygrad_rnn.data.text import Level as Level
from tinygrad_rnn.data.text import detokenize as detokenize
from tinygrad_rnn.data.text import embedded_text as embedded_text
from tinygrad_rnn.data.text import read_text as read_text
from tinygrad_rnn.data.text import tokenize as tokenize
from tinygrad_rnn.data.vocabulary import UNKNOWN as UNKNOWN
from tinygrad_rnn.data.vocabulary import Vocabulary as Vocabulary
