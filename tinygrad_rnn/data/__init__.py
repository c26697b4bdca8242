"""Text for language models: reading, tokens, vocabulary, corpus and mini-batches."""

from tinygrad_rnn.data.batches import OffsetBatches as OffsetBatches
from tinygrad_rnn.data.corpus import Corpus as Corpus
from tinygrad_rnn.data.corpus import load_corpus as load_corpus
from tinygrad_rnn.data.corpus import unigram_nats as unigram_nats
from tinygrad_rnn.data.text import EOS as EOS
from tinygrad_rnn.data.text import Level as Level
from tinygrad_rnn.data.text import detokenize as detokenize
from tinygrad_rnn.data.text import embedded_text as embedded_text
from tinygrad_rnn.data.text import read_text as read_text
from tinygrad_rnn.data.text import tokenize as tokenize
from tinygrad_rnn.data.vocabulary import UNKNOWN as UNKNOWN
from tinygrad_rnn.data.vocabulary import Vocabulary as Vocabulary
