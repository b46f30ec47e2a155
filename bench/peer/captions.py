"""What the Python original does to captions: ftfy and html, NLTK's words and stop words, EDA, CLIP's tokenizer."""

import html
import random
import re
from pathlib import Path

import ftfy
import nltk
from nltk.corpus import wordnet
from open_clip.tokenizer import SimpleTokenizer

# NLTK's list, of which nltk's package carries no copy; one word a line.
STOP_WORDS = Path(__file__).resolve().parent / "stopwords.txt"
CONTEXT = 77


def clean(text):
    """As the original's `clean_before_augment`."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text.strip()).strip().lower()


class Captions:
    """One first caption and further augmented ones, as rows of tokens."""

    def __init__(self, views, nltk_data):
        self.views = views
        self.stop = set(STOP_WORDS.read_text(encoding="utf-8").split())
        self.tokenizer = SimpleTokenizer(context_length=CONTEXT)
        self.synonyms = nltk_data is not None
        if self.synonyms:
            nltk.data.path.append(nltk_data)

    def without_stop_words(self, text):
        """The words and marks that say something. The text counts as one sentence: NLTK's parameters of
        sentences are no part of its package."""
        words = nltk.word_tokenize(text, preserve_line=True)
        return " ".join(word for word in words if word.lower() not in self.stop) or text

    def synonym(self, text):
        """One word replaced, wherever it stands."""
        words = text.split()
        left = list({word for word in words if word not in self.stop})
        random.shuffle(left)
        for word in left:
            found = set()
            for synset in wordnet.synsets(word):
                for name in synset.lemma_names():
                    name = name.replace("_", " ").replace("-", " ").lower()
                    found.add("".join(c for c in name if c in " qwertyuiopasdfghjklzxcvbnm"))
            found.discard(word)
            if found:
                chosen = random.choice(sorted(found))
                return " ".join(chosen if other == word else other for other in words)
        return text

    def augment(self, text):
        """EDA, with the weights of the defaults."""
        kinds = ["synonym", "swap", "delete"]
        weights = [0.4 if self.synonyms else 0.0, 0.4, 0.2]
        kind = random.choices(kinds, weights)[0]
        words = text.split()
        if kind == "synonym":
            return self.synonym(text)
        if kind == "swap" and len(words) > 1:
            a, b = random.sample(range(len(words)), 2)
            words[a], words[b] = words[b], words[a]
        elif kind == "delete" and len(words) > 1:
            words = [word for word in words if random.random() > 0.1] or [random.choice(words)]
        return " ".join(words)

    def __call__(self, caption):
        """Tokens `[V, 77]`."""
        texts = []
        for view in range(self.views):
            text = clean(caption)
            if random.random() < 0.8:
                text = self.without_stop_words(text)
            texts.append(self.augment(text) if view else text)
        return self.tokenizer(texts)
