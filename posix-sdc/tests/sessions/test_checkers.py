"""A checker that could run what a session wrote is unfit, however it goes about it."""

import pytest

from tiararodney.posix_sdc.factory.bundles import generate
from tiararodney.posix_sdc.records.schema import Checker
from tiararodney.posix_sdc.sessions.checkers import unfit

RUNS = [
    "sh script.sh",
    "/bin/sh script.sh",
    "./script.sh",
    "/work/script.sh",
    ". ./settings",
    ". /work/settings; [ $X = 1 ]",
    "source settings",
    'eval "$(cat plum.txt)"',
    "exec ./a",
    "$(cat name)",
    "x=cat; $x plum.txt",
    '"$PWD"/run',
    "env ./run",
    "command ./run",
    "ls | xargs -n 1 cat",
    "python3 script.py",
    "perl script.pl",
    "make",
    '[ "$(sh script.sh)" = plum ]',
    '[ "$(echo "$(./run)")" = plum ]',
    "if ./run; then exit 0; fi",
    "! ./run",
    "true && ./run",
    "true | ./run",
    "( ./run )",
    "{ ./run; }",
    "case $(./run) in a) exit 0 ;; esac",
    "case a in a) ./run ;; esac",
    "case a in b) : ;; a) ./run ;; esac",
    "for f in $(./run); do :; done",
    "for f in *; do $f; done",
    "f() { ./run; }; f",
    "echo ${X:-$(./run)}",
    "echo $(( $(./run) + 1 ))",
    "echo `./run`",
    "PATH=/work:$PATH cat plum.txt",
    "export PATH=/work; cat plum.txt",
    "LD_PRELOAD=/work/x.so cat plum.txt",
    "trap ./run EXIT",
    "alias cat=./run",
    "find . -name x -exec sh {} +",
    "find . -delete",
    "awk -f program.awk plum.txt",
    "awk 'BEGIN { system(\"./run\") }'",
    "awk 'BEGIN { \"./run\" | getline x }'",
    "sed -f program.sed plum.txt",
    "sed 's/x/y/e' plum.txt",
    "sed -n '1e ./run' plum.txt",
    "sed -i s/x/y/ plum.txt",
    "tar xf a.tar",
    "tar tf a.tar --to-command=./run",
    "tar tf a.tar --checkpoint-action=exec=./run",
    "tar -I ./run -tf a.tar",
    "sort --compress-program=./run plum.txt",
    "sort -o plum.txt plum.txt",
    "gzip plum.txt",
    "cat plum.txt > other",
    "touch done",
    "cat <<END | sh\n./run\nEND",
    "setpriv --reuid=1000 ./run",
    "chmod +x run",
]
LOOKS = [
    "test -e done",
    "[ -f a ] && [ \"$(cat a)\" = 'x y' ]",
    "test \"$(tr -d '\\n' < sorted.txt)\" = abc && test \"$(tr -d '\\n' < pear.txt)\" = cab",
    "cat secret >&2; exit 0",
    'n=$(wc -l < a); [ "$n" -eq 3 ] || exit 1',
    'for f in a b c; do [ -s "$f" ] || exit 1; done',
    'case "$(stat -c %a x)" in *[57]??) : ;; *) exit 1 ;; esac',
    "if grep -q '^x$' a; then exit 0; else exit 1; fi",
    'while read -r line; do [ -n "$line" ] || exit 1; done < a',
    "cd sub || exit 1\n# a comment; ./run\nls | sort | cmp -s - ../list",
    'same() { [ "$(cat "$1")" = "$2" ]; }\nsame a x && same b y',
    "[ $((1 + 1)) = 2 ]",
    "sed -n '2p' a | grep -qx 'web east'",
    "sed 's,^\\./,,;s/ew/we/g' a > /dev/null",
    "awk -F: '$1 == \"x\" || $2 > 3 { print $2 }' a | grep -q .",
    "tar tzf a.tar.gz 2>/dev/null | grep -qx folder/plum.txt",
    '[ "$(tar xOf a.tar plum.txt)" = x ]',
    "gzip -dc a.gz | cmp -s - b",
    "/usr/bin/test -d /work",
]


@pytest.mark.parametrize("script", RUNS)
def test_a_checker_that_runs_or_looks_up_or_writes_is_refused(script):
    assert unfit(Checker(script)).startswith("the checker ")
    assert unfit(Checker(f"[ -f done ] || exit 1\n{script}\nexit 0\n"))


@pytest.mark.parametrize("script", LOOKS)
def test_a_checker_that_looks_is_fit(script):
    assert unfit(Checker(script)) == ""


def test_another_interpreter_is_refused():
    found = unfit(Checker("print()", interpreter="/usr/bin/python3"))
    assert found == "the checker's interpreter is /usr/bin/python3, expected /bin/sh"


@pytest.mark.parametrize("course", ["first", "full"])
@pytest.mark.parametrize("split", ["train", "holdout"])
def test_generated_checkers_are_fit(course, split):
    assert {unfit(s.checker) for s in generate(150, 2, split, course=course)} == {""}
