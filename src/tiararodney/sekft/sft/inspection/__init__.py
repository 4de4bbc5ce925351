"""`sekft-train --inspect`: what would be trained, seen without torch; and whether a live endpoint serves the same.

    inspect: sessions -> survey -> report -> text | page
    served (over routes): the prompts of the same sessions, asked of an endpoint

`contract` says what is out of the ordinary with a model's template and tokenizer, `ledger` remembers what finds
duplicates and leaks.
"""
