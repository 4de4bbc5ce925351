"""A model folder's tokenizer and chat template, loaded as its files say, without torch.

`AutoTokenizer` rebuilds some tokenizers from a class of its own and drops parts of ``tokenizer.json`` on the way
(SmolLM2 loses the digit pre-tokenizer), so that file is read by the class that takes it as it stands.
"""

from tiararodney.sekft.tokenizer.file_tokenizer import CONFIG_FILE, TEMPLATE_FILE, TOKENIZER_FILE, FileTokenizer
from tiararodney.sekft.tokenizer.load import load_tokenizer

__all__ = ["CONFIG_FILE", "TEMPLATE_FILE", "TOKENIZER_FILE", "FileTokenizer", "load_tokenizer"]
