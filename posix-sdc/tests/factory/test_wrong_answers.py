"""Answers that looked right to an earlier checker fail, and so does a result that was made up."""

import re

import pytest
from alternatives import ALTERNATIVES
from plain_folder import SEEDS, author, failed

# Archetype to answers with the facts that `alternatives` finds in its solution.
WRONG = {
    "session_variable": ("echo / > <out>", "echo /xyz/bin > <out>", "echo '$<v>' > <out>", "echo '/*' > <out>"),
    "rights_executable": (
        "chmod o+x <d>/*.sh",
        "chmod 001 <d>/*.sh",
        "chmod g+x <d>/*.sh",
        "chmod 300 <d>/*.sh",
        "chmod u+x <d>/*",
    ),
    "rights_script": (
        "echo 'echo <w>' > <f>; chmod 001 <f>",
        "echo 'echo <w>' > <f>; chmod o+x <f>",
        "echo 'echo <w>; rm -rf x' > <f>; chmod +x <f>",
        "printf 'true\\necho <w>\\n' > <f>; chmod +x <f>",
        "echo 'echo <w>' > <f>x; ln -s nowhere <f>",
    ),
    "rights_private": ("chmod 777 <f>", "chmod go-rwx .", "chmod u-r,go-rwx <f>"),
    "archive_pack": (
        (
            "for f in <d>/*; do cp $f keep.$(basename $f); : > $f; done; tar czf <out> <d>; "
            "for f in <d>/*; do mv keep.$(basename $f) $f; done"
        ),
        "tar czf <out> <d>; tar cf <out> <d>",
        "mkdir o; cp -r <d> o; echo x > o/<d>/more; tar czf <out> -C o <d>; rm -r o",
        "tar czf <out> $(ls -d <d>/* | head -n 1)",
        "tar czf <out> <d>; rm -r <d>",
    ),
    "archive_add": (
        "tar rf <f> <m>; tar --delete -f <f> $(tar tf <f> | head -n 1); rm <m>",
        "rm <m>; touch <m>; tar rf <f> <m>; rm <m>",
    ),
    "files_compress": ("cp <src> <src>.gz; rm <src>", "gzip < /dev/null > <src>.gz; rm <src>", "gzip -k <src>"),
    "files_rename": ("ln -s <old> <new>", "cp <old> <new>", "mv <old> x; ln -s x <new>"),
    "files_copy": ("ln -s <a> <b>", "cp <a> <b>; : > <a>"),
    "files_find": ("touch <top>/<name>; echo <top>/<name> > <out>", "find <top> > <out>"),
    "files_names": ("ls -l <d> > <out>", "ls -a <d> > <out>", "ls <d> | head -n 1 > <out>"),
    "files_tree": ("mkdir -p <b>; : > <f>", "mkdir -p <a> <b>; echo x > <f>", "mkdir -p <b>; : > <f>; : > <a>"),
    "config_set": ("echo <k>=<v> >> <f>", "sed -i 's/=.*/=<v>/' <f>", "echo <k>=<v> > <f>"),
    "ticket_open": ("ls -d <d>/* > <out>", "grep -l 'state: open' <d>/* > <out>; rm <d>/*"),
    "text_checksum": ("echo $(cksum <src>) > <out>", "{ md5sum <src>; sha256sum <src>; } > <out>"),
    "convert_base64": ("base64 <src> | tr A-Z a-z > <out>", "base64 <src> | head -c 8 > <out>"),
    "service_enable": ("echo running > $(sed -n 's/.*> \\([a-z]*.state\\).*/\\1/p' <f>)", "echo <n> >> <l>"),
    "survey_largest": ("ls <d> > <out>", "ls -S <d> > <out>"),
    "mail_subjects": ("sed -n 's/^Subject: //p' <a>/*.msg | sort -u | sed 1d > <out>", "echo > <out>"),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", WRONG)
def test_wrong_answers_fail(name, seed, tmp_path):
    work = author(name, seed)
    found = re.search(ALTERNATIVES[name][0], "\n".join(work.solution), re.MULTILINE)
    for i, template in enumerate(WRONG[name]):
        answer = re.sub(r"<(\w+)>", lambda m: found.groupdict().get(m[1], m[0]), template)
        assert failed(work, (answer,), tmp_path / str(i)), answer
