# ruff: noqa: E501 - a command is one line
r"""Other right answers to directives, written from the directives alone: what people type who know other utilities.

For each archetype a pattern that finds the facts of a piece of work in its reference solution (the directive words them
in many ways, the solution in one), and at least four answers, with `<fact>` for each of them. They work on files whose
last line has no newline, too.
"""

import re

from tiararodney.posix_sdc.factory.archetypes import AUTHORS

SRC_OUT = r"(?P<src>\S+) > (?P<out>\S+)$"

ALTERNATIVES: dict[str, tuple[str, tuple[str, ...]]] = {
    "text_count": (
        r"wc -l < " + SRC_OUT,
        (
            "awk 'END{print NR}' <src> > <out>",
            'n=0; while IFS= read -r l || [ -n "$l" ]; do n=$((n+1)); done < <src>; echo $n > <out>',
            "set -- $(wc -l <src>); printf '%s' \"$1\" > <out>",
            "grep -c '' <src> > <out>",
            "cat -n <src> | tail -n 1 | awk '{print $1}' > <out>",
        ),
    ),
    "text_matching": (
        r"grep (?P<word>\S+) " + SRC_OUT,
        (
            'while read -r l || [ -n "$l" ]; do case "$l" in *<word>*) echo "$l";; esac; done < <src> > <out>',
            "awk 'index($0, \"<word>\")' <src> > <out>",
            "sed '/<word>/!d' <src> > <out>",
            "cp <src> <out>; grep -F '<word>' <src> | tee <out> > /dev/null",
        ),
    ),
    "text_tally": (
        r"grep -c (?P<word>\S+) " + SRC_OUT,
        (
            "awk '/<word>/{n++} END{print n+0}' <src> > <out>",
            'n=0; while read -r l || [ -n "$l" ]; do case "$l" in *<word>*) n=$((n+1));; esac; done < <src>; echo $n > <out>',
            "sed -n '/<word>/p' <src> | wc -l | tr -d ' ' > <out>",
            "printf '%d' $(grep <word> <src> | wc -l) > <out>",
        ),
    ),
    "text_first": (
        r"head -n (?P<n>\d+) " + SRC_OUT,
        (
            "awk 'NR<=<n>' <src> > <out>",
            "sed -n '1,<n>p' <src> > <out>",
            'i=0; while [ $i -lt <n> ] && IFS= read -r l; do echo "$l"; i=$((i+1)); done < <src> > <out>',
            "cat <src> | head -<n> | tee <out>",
        ),
    ),
    "text_last": (
        r"tail -n (?P<n>\d+) " + SRC_OUT,
        (
            "grep -n '' <src> | tail -n <n> | cut -d: -f2- > <out>",
            'sed -n "$(( $(wc -l < <src>) - <n> + 1 )),\\$p" <src> > <out>',
            "awk -v n=<n> '{a[NR]=$0} END{for(i=NR-n+1;i<=NR;i++) print a[i]}' <src> > <out>",
            "cp <src> <out>; while [ $(wc -l < <out>) -gt <n> ]; do sed -i 1d <out>; done",
        ),
    ),
    "text_range": (
        r"sed -n '(?P<a>\d+),(?P<b>\d+)p' " + SRC_OUT,
        (
            "head -n <b> <src> | tail -n +<a> > <out>",
            "awk 'NR>=<a>&&NR<=<b>' <src> > <out>",
            "cat -n <src> | awk '$1>=<a> && $1<=<b>' | cut -f2- > <out>",
            'i=0; while IFS= read -r l || [ -n "$l" ]; do i=$((i+1)); [ $i -lt <a> ] || [ $i -gt <b> ] || echo "$l"; done < <src> > <out>',
        ),
    ),
    "text_headless": (
        r"sed 1d " + SRC_OUT,
        (
            "tail -n +2 <src> > <out>",
            "awk 'NR>1' <src> > <out>",
            "{ read -r first; cat; } < <src> > <out>",
            "cp <src> <out>; sed -i 1d <out>",
        ),
    ),
    "text_bottom": (
        r"tail -n 1 " + SRC_OUT,
        (
            "awk 'END{print}' <src> > <out>",
            "sed '$!d' <src> > <out>",
            "grep -n '' <src> | tail -n 1 | cut -d: -f2- > <out>",
            'while read -r l || [ -n "$l" ]; do last=$l; done < <src>; printf \'%s\' "$last" > <out>',
        ),
    ),
    "text_without": (
        r"grep -v (?P<word>\S+) " + SRC_OUT,
        (
            "awk '!/<word>/' <src> > <out>",
            "sed -n '/<word>/!p' <src> > <out>",
            'while read -r l || [ -n "$l" ]; do case "$l" in *<word>*) ;; *) echo "$l";; esac; done < <src> > <out>',
            "cp <src> <out>; sed -i /<word>/d <out>",
        ),
    ),
    "text_sort": (
        r"sort(?P<flags>[ a-z-]*) " + SRC_OUT,
        (
            "cat <src> | sort<flags> | tee <out>",
            "cp <src> <out> && sort<flags> -o <out> <out>",
            "LC_ALL=C sort<flags> < <src> > <tmp>; mv <tmp> <out>",
            'sort<flags> <src> | while IFS= read -r l || [ -n "$l" ]; do printf \'%s\\n\' "$l"; done > <out>',
        ),
    ),
    "text_unique": (
        r"sort -u " + SRC_OUT,
        (
            "sort <src> | uniq > <out>",
            "awk '!seen[$0]++' <src> | sort > <out>",
            "sort <src> | awk '$0 != p; {p=$0}' > <out>",
            "sort <src> > <out>; sort -u -o <out> <out>",
        ),
    ),
    "text_reverse": (
        r"tac " + SRC_OUT,
        (
            "awk '{a[NR]=$0} END{for(i=NR;i>0;i--) print a[i]}' <src> > <out>",
            "cat -n <src> | sort -rn | cut -f2- > <out>",
            "sed -n '1!G;h;$p' <src> > <out>",
            "cp <src> <out>; tac <out> > <tmp>; mv <tmp> <out>",
        ),
    ),
    "text_paste": (
        r"paste (?P<l>\S+) (?P<r>\S+) > (?P<out>\S+)$",
        (
            "paste -d ' ' <l> <r> > <out>",
            "pr -m -t <l> <r> > <out>",
            'exec 3< <r>; while read -r a || [ -n "$a" ]; do read -r b <&3; echo "$a $b"; done < <l> > <out>',
            "awk 'NR==FNR{a[FNR]=$0;next}{print a[FNR]\"\\t\"$0}' <l> <r> > <out>",
        ),
    ),
    "text_upper": (
        r"tr (?P<a>\S+) (?P<b>\S+) < " + SRC_OUT,
        (
            '[ <a> = a-z ] && f=toupper || f=tolower; awk "{print $f(\\$0)}" <src> > <out>',
            '[ <a> = a-z ] && c=U || c=L; sed "s/.*/\\\\$c&/" <src> > <out>',
            "cat <src> | tr '[<a>]' '[<b>]' > <out>",
            "dd if=<src> 2>/dev/null | tr <a> <b> | cat > <out>",
        ),
    ),
    "text_prefix": (
        r"sed 's/\^/(?P<mark>.*)/' " + SRC_OUT,
        (
            "awk -v m='<mark>' '{print m $0}' <src> > <out>",
            "while IFS= read -r l || [ -n \"$l\" ]; do printf '%s%s\\n' '<mark>' \"$l\"; done < <src> > <out>",
            "sed 's/.*/<mark>&/' <src> > <out>",
            "cp <src> <out>; sed -i 's/^/<mark>/' <out>",
        ),
    ),
    "text_word": (
        r"cut -d' ' -f(?P<n>\d) " + SRC_OUT,
        (
            "awk '{print $<n>}' <src> > <out>",
            'while read -r a b c || [ -n "$a" ]; do eval "echo \\$$(echo abc | cut -c<n>)" ; done < <src> > <out>',
            "tr ' ' '\\t' < <src> | cut -f<n> > <out>",
            'cat <src> | while read -r l || [ -n "$l" ]; do set -- $l; shift $((<n>-1)); echo $1; done > <out>',
        ),
    ),
    "text_numbered": (
        r"grep -n '' " + SRC_OUT,
        (
            "awk '{print NR\":\"$0}' <src> > <out>",
            'i=0; while IFS= read -r l || [ -n "$l" ]; do i=$((i+1)); echo "$i:$l"; done < <src> > <out>',
            "nl -ba -s: -w1 <src> > <out>",
            "sed = <src> | sed 'N;s/\\n/:/' > <out>",
        ),
    ),
    "text_total": (
        r"END \{ print s \}' " + SRC_OUT,
        (
            't=0; while read -r w n || [ -n "$w" ]; do t=$((t+n)); done < <src>; echo $t > <out>',
            "expr 0 $(sed 's/.* /+ /' <src>) > <out>",
            "echo $(( $(cut -d' ' -f2 <src> | paste -sd+) )) > <out>",
            "awk '{t+=$NF} END{printf \"%d\", t}' <src> > <out>",
        ),
    ),
    "text_checksum": (
        r"(?P<prog>\w+sum) " + SRC_OUT,
        (
            "<prog> < <src> | cut -d' ' -f1 > <out>",
            "cat <src> | <prog> > <out>",
            "<prog> --tag <src> > <out>",
            "set -- $(<prog> <src>); printf '%s' $1 > <out>",
        ),
    ),
    "text_replace": (
        r"s/(?P<old>\w+)/(?P<new>\w+)/g' (?P<src>\S+)$",
        (
            "sed 's/<old>/<new>/g' <src> > <tmp> && mv <tmp> <src>",
            "awk '{gsub(/<old>/,\"<new>\")} 1' <src> > <tmp>; cat <tmp> > <src>; rm <tmp>",
            'while read -r a b; do [ "$b" = <old> ] && b=<new>; echo "$a $b"; done < <src> > <tmp>; mv <tmp> <src>',
            "printf '%s\\n' \"$(sed s/<old>/<new>/ <src>)\" > <src>",
        ),
    ),
    "files_empty": (
        r"touch (?P<out>\S+)",
        (": > <out>", "cp /dev/null <out>", "printf '' > <out>", "cat /dev/null > ./<out>", "truncate -s 0 <out>"),
    ),
    "files_compress": (
        r"gzip (?P<src>\S+)",
        (
            "gzip -c <src> > <src>.gz && rm <src>",
            "cat <src> | gzip > <src>.gz; rm -f ./<src>",
            "gzip -k <src>; unlink <src>",
            "gzip -1 -- <src>",
        ),
    ),
    "files_note": (
        r"echo '(?P<line>.*)' > (?P<out>\S+)",
        (
            "printf '%s' '<line>' > <out>",
            "cat <<'E' > <out>\n<line>\nE",
            "echo '<line>' | tee <out>",
            "touch <out>; echo <line> >> <out>",
        ),
    ),
    "files_rename": (
        r"mv (?P<old>\S+) (?P<new>\S+)",
        (
            "cp <old> <new> && rm <old>",
            "cat <old> > <new>; rm -f <old>",
            "ln <old> <new>; unlink <old>",
            "find . -name <old> -exec mv {} <new> \\;",
        ),
    ),
    "files_remove": (
        r"rm (?P<old>\S+)",
        ("unlink <old>", "find . -name <old> -delete", "rm -- ./<old>", "mv <old> /dev/shm/$$ && rm -f /dev/shm/$$"),
    ),
    "files_join": (
        r"cat (?P<a>\S+) (?P<b>\S+) > (?P<out>\S+)",
        (
            "cp <a> <out>; cat <b> >> <out>",
            "awk 1 <a> <b> > <out>",
            "{ cat <a>; cat <b>; } > <out>",
            "sed -n p <a> <b> | tee <out>",
        ),
    ),
    "files_swap": (
        r"mv (?P<a>\S+) (?P<t>\S+)\nmv (?P<b>\S+) ",
        (
            "cp <a> old; cp <b> <a>; cp old <b>; rm old",
            'x=$(cat <a>); y=$(cat <b>); echo "$y" > <a>; echo "$x" > <b>',
            "mkdir d; mv <a> d/; mv <b> <a>; mv d/<a> <b>; rmdir d",
            "ln <a> h; mv <b> <a>; mv h <b>",
        ),
    ),
    "files_copy": (
        r"cp (?P<a>\S+) (?P<b>\S+)",
        ("cat <a> > <b>", "ln <a> <b>", "install -m 644 <a> <b>", "sed '' <a> > <b>", "dd if=<a> of=<b> 2>/dev/null"),
    ),
    "files_link": (
        r"ln -s (?P<a>\S+) (?P<b>\S+)",
        ("ln -s ./<a> <b>", 'ln -s "$PWD/<a>" <b>', "cp -s <a> <b>", "ln -sf <a> ./<b>"),
    ),
    "files_move": (
        r"mv (?P<a>\S+) (?P<d>\S+)/",
        ("cp <a> <d>/ && rm <a>", "cat <a> > <d>/<a>; rm <a>", "mv -t <d> <a>", "ln <a> <d>/<a>; rm -f <a>"),
    ),
    "files_names": (
        r"ls (?P<d>\S+) > (?P<out>\S+)",
        (
            "find <d> -type f > <out>",
            "for f in <d>/*; do basename $f; done > <out>",
            "(cd <d>; printf '%s\\n' *) > <out>",
            "ls -r <d> | cat > <out>",
            "find <d> -type f -printf '%f\\n' > <out>",
            "(cd <d>; find . -type f) > <out>",
        ),
    ),
    "files_folder": (
        r"mkdir (?:-p )?(?P<d>\S+)",
        (
            "mkdir -p -m 755 <d>/",
            "install -d <d>",
            "p=; for x in $(echo <d> | tr / ' '); do p=$p$x/; mkdir $p; done",
            "mkdir -p $PWD/<d>",
        ),
    ),
    "files_shelve": (
        r"mkdir (?P<d>\S+)\nmv (?P<a>\S+) ",
        (
            "mkdir <d> && cp <a> <d> && rm <a>",
            "install -D <a> <d>/<a>; rm <a>",
            "mkdir -p <d>; cat <a> > <d>/<a>; unlink <a>",
            "install -d <d>; mv -t <d> ./<a>",
        ),
    ),
    "files_find": (
        r"find (?P<top>\S+) -name (?P<name>\S+) > (?P<out>\S+)",
        (
            "ls -d <top>/*/*/<name> > <out>",
            "for f in $(find <top>); do case $f in */<name>) echo $f;; esac; done > <out>",
            "find ./<top> -type f -name '<name>' > <out>",
            "printf '%s' <top>/*/*/<name> > <out>",
        ),
    ),
    "files_gather": (
        r"mv (?P<a>\S+)/\*\.(?P<k>\w+) (?P<b>\S+)/",
        (
            "find <a> -name '*.<k>' -exec mv {} <b>/ \\;",
            "cp <a>/*.<k> <b>/ && rm <a>/*.<k>",
            "ls <a> | grep '\\.<k>$' | while read f; do mv <a>/$f <b>; done",
            "cd <a>; mv *.<k> ../<b>",
            "find <a> -name '*.<k>' | xargs mv -t <b>",
        ),
    ),
    "files_tree": (
        r"mkdir -p (?P<a>\S+) (?P<b>\S+)\ntouch (?P<f>\S+)",
        (
            "mkdir -p <a>; mkdir -p <b>; : > <f>",
            "install -d <a> <b>; cp /dev/null <f>",
            "for d in <a> <b>; do mkdir -p $d; done; (cd <b> && touch ${PWD##*/}.x && mv *.x $(basename <f>))",
            "mkdir -p <b> <a> && printf '' > <f>",
        ),
    ),
    "rights_mode": (
        r"chmod (?P<m>\d+) (?P<f>\S+)",
        (
            "chmod 0<m> ./<f>",
            "find . -name <f> -exec chmod <m> {} +",
            "cp <f> <tmp>; chmod u+rw <f>; cat <tmp> > <f>; rm <tmp>; chmod <m> <f>",
            "cp <f> <tmp> && rm -f <f> && install -m <m> <tmp> <f>",
        ),
    ),
    "rights_script": (
        r"echo 'echo (?P<w>\S+)' > (?P<f>\S+)",
        (
            "printf '#!/bin/sh\\necho <w>\\n' > <f>; chmod 755 <f>",
            "cat > <f> <<'E'\n#!/bin/sh\n# says a word\n\necho \"<w>\"\nE\nchmod u+x <f>",
            "echo \"echo '<w>'\" > <f> && chmod 700 <f>",
            "echo 'echo <w>' | install -m 755 /dev/stdin <f>",
        ),
    ),
    "rights_executable": (
        r"chmod \+x (?P<d>\S+)/\*\.sh",
        (
            "chmod u+x <d>/*.sh",
            "for f in <d>/*.sh; do chmod 755 $f; done",
            "ls <d>/*.sh | xargs chmod 0744",
            "cd <d> && chmod ugo+x *.sh",
        ),
    ),
    "rights_private": (
        r"chmod go-rwx (?P<f>\S+)",
        (
            "chmod g=,o= <f>",
            "chmod g-rwx <f>; chmod o-rwx <f>",
            "chmod $(stat -c %a <f> | cut -c1)00 <f>",
            "chmod go-r,go-w,go-x ./<f>",
        ),
    ),
    "rights_open": (
        r"find (?P<d>\S+) -type f -perm -002 > (?P<out>\S+)",
        (
            "ls -l <d> | awk -v d=<d> '$1 ~ /^-.......w/ {print d\"/\"$NF}' > <out>",
            "for f in <d>/*; do case $(stat -c %a $f) in *[2367]) echo $f;; esac; done > <out>",
            "find <d> -perm -o+w | sort -r > <out>",
            "stat -c '%a %n' <d>/* | grep '[2367] ' | cut -d' ' -f2 > <out>",
        ),
    ),
    "config_comment": (
        r"s/\^(?P<a>#?)(?P<key>\w+)=/(?P<b>#?)\w+=/' (?P<f>\S+)$",
        (
            'awk \'/^#?<key>=/{sub(/^#/,""); $0="<b>"$0} 1\' <f> > <tmp>; cat <tmp> > <f>; rm <tmp>',
            "while IFS= read -r l || [ -n \"$l\" ]; do case $l in '<a><key>='*) l='<b><key>='${l#*=};; esac; echo \"$l\"; done < <f> > <tmp>; mv <tmp> <f>",
            "sed '/^<a><key>=/s/^<a>/<b>/' <f> > <tmp> && cp <tmp> <f>",
            "sed -i 's,^<a>\\(<key>=.*\\)$,<b>\\1,' <f>",
        ),
    ),
    "config_section": (
        r"\\\[(?P<s>\w+)\\\]/,/\^\\\[/s/\^(?P<k>\w+)=\.\*/\w+=(?P<v>\w+)/' (?P<f>\S+)",
        (
            'awk \'/^\\[/{on=($0=="[<s>]")} on && /^<k>=/{$0="<k>=<v>"} 1\' <f> > <tmp>; mv <tmp> <f>',
            "sed -i '/^\\[<s>]/{n;s/=.*/=<v>/}' <f>",
            (
                "in=; while read -r l || [ -n \"$l\" ]; do case $l in \\[*) in=$l;; <k>=*) [ \"$in\" = '[<s>]' ] && l='<k>=<v>';; esac; "
                'echo "$l"; done < <f> > <tmp>; cat <tmp> > <f>'
            ),
            "n=$(grep -n '^.<s>.$' <f> | cut -d: -f1); sed -i \"$((n+1))s/.*/<k>=<v>/\" <f>",
        ),
    ),
    "config_merge": (
        r"cat (?P<b>\S+) >> (?P<a>\S+)",
        (
            "cat <a> <b> > <tmp> && mv <tmp> <a> && rm <b>",
            'while read -r l || [ -n "$l" ]; do echo "$l" >> <a>; done < <b>; unlink <b>',
            "awk 1 <b> >> <a>; rm -f <b>",
            "sed -i '$r <b>' <a>; rm <b>",
        ),
    ),
    "config_set": (
        r"s/\^(?P<k>\w+)=\.\*/\w+=(?P<v>\w+)/' (?P<f>\S+)$",
        (
            'awk -F= -v OFS== \'$1=="<k>"{$2="<v>"} 1\' <f> > <tmp>; cat <tmp> > <f>; rm <tmp>',
            "grep -v '^<k>=' <f> > <tmp>; echo <k>=<v> >> <tmp>; mv <tmp> <f>",
            "sed 's/^\\(<k>\\)=.*/\\1=<v>/' <f> > <tmp> && cp <tmp> <f>",
            "while IFS== read -r a b; do [ $a = <k> ] && b=<v>; echo $a=$b; done < <f> > <tmp>; mv <tmp> <f>",
        ),
    ),
    "config_add": (
        r"echo (?P<l>\S+) >> (?P<f>\S+)",
        (
            "printf '%s' <l> >> <f>",
            "cat <<E >> <f>\n<l>\nE",
            "{ cat <f>; echo <l>; } > <tmp>; mv <tmp> <f>",
            "awk '1; END{print \"<l>\"}' <f> > <tmp>; cat <tmp> > <f>",
        ),
    ),
    "config_read": (
        r"grep \^(?P<k>\w+)= " + SRC_OUT,
        (
            "awk -F= '$1==\"<k>\"' <src> > <out>",
            'while read -r l || [ -n "$l" ]; do case $l in <k>=*) echo $l;; esac; done < <src> > <out>',
            "sed '/^<k>=/!d' <src> > <out>",
            "echo $(grep '^<k>=' <src>) > <out>",
        ),
    ),
    "config_drop": (
        r"/\^(?P<k>\w+)=/d' (?P<f>\S+)",
        (
            "grep -v '^<k>=' <f> > <tmp>; mv <tmp> <f>",
            "awk -F= '$1!=\"<k>\"' <f> > <tmp>; cat <tmp> > <f>",
            'while read -r l || [ -n "$l" ]; do case $l in <k>=*) ;; *) echo $l;; esac; done < <f> > <tmp>; mv <tmp> <f>',
            "printf '%s\\n' \"$(grep -v ^<k>= <f>)\" > <f>",
        ),
    ),
    "config_backup": (
        r"cp (?P<f>\S+) (?P<b>\S+)\necho (?P<l>\S+) >>",
        (
            "cat <f> > <b>; printf '%s\\n' <l> >> <f>",
            "mv <f> <b>; { cat <b>; echo <l>; } > <f>",
            "cp -a <f> <b> && sed -i '$a<l>' <f>",
            "tee <b> < <f> > /dev/null; echo '<l>' | cat <f> - > <tmp>; mv <tmp> <f>",
        ),
    ),
    "logs_level": (
        r"grep (?P<w>\S+) " + SRC_OUT,
        (
            "awk '$1==\"<w>\"' <src> > <out>",
            "sed -n '/^<w> /p' <src> > <out>",
            'while read -r l || [ -n "$l" ]; do case $l in <w>*) echo "$l";; esac; done < <src> > <out>',
            "grep -F '<w>' <src> | tee <out>",
        ),
    ),
    "logs_count": (
        r"grep -c (?P<w>\S+) " + SRC_OUT,
        (
            "awk '/^<w>/{n++} END{print n+0}' <src> > <out>",
            "grep <w> <src> | wc -l > <out>",
            "n=0; for w in $(cut -d' ' -f1 <src>); do [ $w = <w> ] && n=$((n+1)); done; echo $n > <out>",
            "cut -d' ' -f1 <src> | sort | uniq -c | awk '$2==\"<w>\"{print $1}' > <out>",
        ),
    ),
    "logs_hour": (
        r"grep \^(?P<h>\d+): " + SRC_OUT,
        (
            "awk -F: '$1==\"<h>\"' <src> > <out>",
            "sed '/^<h>:/!d' <src> > <out>",
            'while read -r l || [ -n "$l" ]; do case $l in <h>:*) echo "$l";; esac; done < <src> > <out>',
            "grep '^<h>:[0-5][0-9]' <src> | cat > <out>",
        ),
    ),
    "logs_loudest": (
        r"cut -d' ' -f2 (?P<src>\S+) \| .* > (?P<out>\S+)$",
        (
            "awk '{n[$2]++} END{for(k in n) if(n[k]>m){m=n[k];w=k}; print w}' <src> > <out>",
            (
                'for w in $(cut -d\' \' -f2 <src> | sort -u); do echo "$(grep -c " $w " <src>) $w"; done | sort -n | tail -n 1 '
                "| cut -d' ' -f2 > <out>"
            ),
            "cut -d' ' -f2 <src> | sort | uniq -c | sort -n | tail -1 | sed 's/.* //' > <out>",
            "awk '{print $2}' <src> | sort | uniq -c | sort -k1,1nr | head -1 | tr -d ' 0-9' > <out>",
        ),
    ),
    "logs_rotate": (
        r"mv (?P<a>\S+) (?P<b>\S+)\n",
        (
            "cp <a> <b>; : > <a>",
            "cat <a> > <b> && truncate -s 0 <a>",
            "mv <a> <b> && cp /dev/null <a>",
            "ln <a> <b>; rm <a>; printf '' > <a>",
        ),
    ),
    "logs_split": (
        r"ERROR (?P<src>\S+) > (?P<e>\S+)\ngrep WARN \S+ > (?P<w>\S+)",
        (
            'awk \'/^ERROR/{print > "<e>"} /^WARN/{print > "<w>"}\' <src>',
            'while read -r l || [ -n "$l" ]; do case $l in ERROR*) echo "$l" >> <e>;; WARN*) echo "$l" >> <w>;; esac; done < <src>',
            "sed -n -e '/^ERROR/w <e>' -e '/^WARN/w <w>' <src>",
            "for p in ERROR:<e> WARN:<w>; do grep ${p%%:*} <src> > ${p#*:}; done",
        ),
    ),
    "archive_pack": (
        r"tar czf (?P<out>\S+) (?P<d>\S+)",
        (
            "tar czf <out> ./<d>",
            "tar cf <tmp> <d>; gzip -c <tmp> > <out>; rm <tmp>",
            "tar -cvzf <out> <d>/",
            "tar czf <out> <d>/*",
            "find <d> -type f | tar czf <out> -T -",
            "tar cf - <d> | gzip -9 > <out>",
        ),
    ),
    "archive_unpack": (
        r"sh (?P<f>\S+)",
        ("cat <f> | sh", ". ./<f>", "dash <f>", "chmod +x <f>; sh -e ./<f>", "(sh $PWD/<f>)"),
    ),
    "archive_extract": (
        r"tar xf (?P<f>\S+)",
        (
            "cat <f> | tar x",
            "for m in $(tar tf <f>); do mkdir -p $(dirname $m); tar xOf <f> $m > $m; done",
            "tar -xvf ./<f> -C .",
            "tar tf <f> | xargs tar xf <f>",
        ),
    ),
    "archive_member": (
        r"tar xOf (?P<f>\S+) (?P<m>\S+) > (?P<out>\S+)",
        (
            "tar -xOf <f> <m> | tee <out>",
            "mkdir tmp.d; tar xf <f> -C tmp.d <m>; mv tmp.d/<m> <out>; rm -r tmp.d",
            "cat <f> | tar xO <m> > <out>",
            "tar --to-stdout -x -f <f> <m> > <out>",
        ),
    ),
    "archive_contents": (
        r"tar tf (?P<f>\S+) > (?P<out>\S+)",
        (
            "tar tvf <f> | awk '{print $NF}' > <out>",
            "cat <f> | tar t | tee <out>",
        ),
    ),
    "archive_add": (
        r"tar rf (?P<f>\S+) (?P<m>\S+)",
        (
            "tar rf <f> ./<m>; rm <m>",
            "tar --append --file=<f> <m> && unlink <m>",
            "mkdir tmp.d; tar xf <f> -C tmp.d; mv <m> tmp.d; (cd tmp.d; tar cf ../<f> *); rm -r tmp.d",
            "tar uf <f> <m>; rm -f <m>",
        ),
    ),
    "convert_column": (
        r"cut -d, -f(?P<n>\d) " + SRC_OUT,
        (
            "awk -F, '{print $<n>}' <src> > <out>",
            'while IFS=, read -r a b c || [ -n "$a" ]; do set -- $a $b $c; shift $((<n>-1)); echo $1; done < <src> > <out>',
            "tr , '\\t' < <src> | cut -f<n> > <out>",
            "sed 's/,/ /g' <src> | cut -d' ' -f<n> > <out>",
        ),
    ),
    "convert_delimiter": (
        r"tr '(?P<a>.)' '(?P<b>.)' < " + SRC_OUT,
        (
            "sed 'y/<a>/<b>/' <src> > <out>",
            'awk \'{gsub("<a>","<b>")} 1\' <src> > <out>',
            "cp <src> <out>; sed -i 's/[<a>]/<b>/g' <out>",
            (
                'while IFS= read -r l || [ -n "$l" ]; do while [ "${l#*<a>}" != "$l" ]; do l="${l%%<a>*}<b>${l#*<a>}"; done; '
                'echo "$l"; done < <src> > <out>'
            ),
        ),
    ),
    "convert_swap": (
        r"print \$2, \$1 \}' " + SRC_OUT,
        (
            'while read -r a b || [ -n "$a" ]; do echo "$b $a"; done < <src> > <out>',
            "sed 's/^\\([^ ]*\\) \\(.*\\)$/\\2 \\1/' <src> > <out>",
            "cut -d' ' -f1 <src> > a.tmp; cut -d' ' -f2 <src> | paste -d' ' - a.tmp > <out>",
            "awk '{printf \"%s %s\\n\", $2, $1}' <src> > <out>",
        ),
    ),
    "convert_csv": (
        r"tr ' ' , < " + SRC_OUT,
        (
            "awk -v OFS=, '{$1=$1} 1' <src> > <out>",
            'while read -r a b || [ -n "$a" ]; do echo $a,$b; done < <src> > <out>',
            "sed 'y/ /,/' <src> > <out>",
            "cut -d' ' -f1,2 --output-delimiter=, <src> > <out>",
        ),
    ),
    "convert_line": (
        r"paste -sd, " + SRC_OUT,
        (
            "tr '\\n' , < <src> | sed 's/,$//' > <out>",
            'awk \'NR>1{printf ","} {printf "%s",$0} END{print ""}\' <src> > <out>',
            's=; while read -r l || [ -n "$l" ]; do s=$s,$l; done < <src>; echo ${s#,} > <out>',
            "paste -s -d , <src> > <out>",
        ),
    ),
    "convert_lines": (
        r"tr , '\\n' < " + SRC_OUT,
        (
            "awk -v RS=, '{sub(/\\n/,\"\")} 1' <src> > <out>",
            "IFS=,; for w in $(cat <src>); do echo $w; done > <out>",
            "sed 'y/,/\\n/' <src> > <out>",
            "printf '%s\\n' $(tr , ' ' < <src>) > <out>",
        ),
    ),
    "convert_base64": (
        r"base64 " + SRC_OUT,
        (
            "base64 -w0 <src> > <out>",
            "cat <src> | base64 -w 20 > <out>",
            "base64 -w 64 <src> | tee <out>",
            "printf '%s' \"$(base64 <src>)\" > <out>",
        ),
    ),
    "convert_exports": (
        r"s/\^/export /' " + SRC_OUT,
        (
            "awk '{print \"export \"$0}' <src> > <out>",
            'while read -r l || [ -n "$l" ]; do echo export $l; done < <src> > <out>',
            "cp <src> <out>; sed -i 's/.*/export &/' <out>",
            "for l in $(cat <src>); do printf 'export %s\\n' $l; done > <out>",
        ),
    ),
    "session_variable": (
        r"echo \$(?P<v>\w+) > (?P<out>\S+)",
        (
            "printf '%s\\n' \"$<v>\" > <out>",
            "env | sed -n 's/^<v>=//p' > <out>",
            "cat > <out> <<E\n$<v>\nE",
            'awk \'BEGIN{printf "%s", ENVIRON["<v>"]}\' > <out>',
        ),
    ),
    "session_profile": (
        r"echo '(?P<l>.*)' >> (?P<f>\S+)",
        (
            "printf '%s' '<l>' >> <f>",
            "cat >> <f> <<'E'\n<l>\nE",
            "{ cat <f>; echo '<l>'; } > <tmp>; mv <tmp> <f>",
            "sed -i '$a<l>' <f>",
        ),
    ),
    "session_path": (
        r"echo '(?P<l>.*)' >> (?P<f>\S+)",
        (
            "printf '%s\\n' '<l>' >> <f>",
            "cat >> <f> <<'E'\n<l>\nE",
            "{ cat <f>; echo '<l>'; } > <tmp>; mv <tmp> <f>",
            "sed -i '$a<l>' <f>",
        ),
    ),
    "session_source": (
        r"\. \./(?P<f>\S+)\necho \"\$(?P<v>\w+)\" > (?P<out>\S+)",
        (
            "sh -c '. ./<f>; echo $<v>' > <out>",
            '(. "$PWD/<f>"; printf \'%s\' "$<v>") > <out>',
            "set -a; . ./<f>; env | grep '^<v>=' | cut -d= -f2- > <out>",
            "eval \"$(cat <f>)\"; printf '%s\\n' $<v> > <out>",
        ),
    ),
    "session_unset": (
        r"s/\^export (?P<v>\w+)=\.\*/unset \w+/' (?P<f>\S+)",
        (
            "awk '/^export <v>=/{$0=\"unset <v>\"} 1' <f> > <tmp>; mv <tmp> <f>",
            "while read -r l || [ -n \"$l\" ]; do case $l in 'export <v>='*) l='unset <v>';; esac; echo $l; done < <f> > <tmp>; cat <tmp> > <f>",
            "sed 's/export <v>=[a-z]*/unset <v>/' <f> > <tmp> && cp <tmp> <f>",
            "n=$(grep -n '<v>=' <f> | cut -d: -f1); sed -i \"${n}c unset <v>\" <f>",
        ),
    ),
    "build_run": (r"sh (?P<f>\S+)", (". ./<f>", "cat <f> | sh", "chmod +x <f>; sh ./<f> 2>&1 | cat", "dash <f>")),
    "build_chain": (
        r"sh (?P<f>\S+)\nmv (?P<o>\S+) (?P<d>\S+)/",
        (
            ". ./<f>; mv <o> <d>",
            "sh <f> && cp <o> <d>/ && rm <o>",
            "sh ./<f>; mv -t <d> <o>",
            "cat <f> | sh; cat <o> > <d>/<o>; rm <o>",
        ),
    ),
    "build_order": (
        r"sh (?P<a>\S+)\nsh (?P<b>\S+)\nsh (?P<c>\S+)",
        (
            "for s in <a> <b> <c>; do sh $s; done",
            "sh <a> && sh <b> && sh <c>",
            "cat <a> <b> <c> | sh",
            ". ./<a>; . ./<b>; . ./<c>",
        ),
    ),
    "build_repair": (
        r"s/(?P<w>\S+)/(?P<r>\S+)/g' (?P<f>\S+)\n",
        (
            "sed 's/<w>/<r>/' <f> > <tmp>; cat <tmp> > <f>; rm <tmp>; sh <f>",
            'awk \'{gsub("<w>","<r>")} 1\' <f> > <tmp>; mv <tmp> <f>; sh ./<f>',
            "printf '%s\\n' \"$(sed 's,<w>,<r>,g' <f>)\" > <f>; . ./<f>",
            "sed -i '/<w>/s//<r>/g' <f>; cat <f> | sh",
        ),
    ),
    "build_variable": (
        r"(?P<v>\w+)=(?P<x>\w+) sh (?P<f>\S+)",
        (
            "<v>=<x>; export <v>; sh <f>",
            "env <v>=<x> sh ./<f>",
            "<v>=<x>; . ./<f>",
            "cat <f> | <v>=<x> sh",
        ),
    ),
    "mail_answer": (
        r"echo '(?P<w>\w+)' > (?P<r>\S+)\nmv (?P<m>\S+) (?P<d>\S+)/",
        (
            "printf '<w>' > <r>; cp <m> <d>/ && rm <m>",
            "cat > <r> <<E\n<w>\nE\nmv -t <d> <m>",
            "echo <w> | tee <r>; mv <m> <d>/<m>",
            'mv ./<m> ./<d>; echo "<w>" > ./<r>',
        ),
    ),
    "mail_sort": (
        r"'From: (?P<p>\w+)' (?P<a>\S+)/\*\.msg\) (?P<b>\S+)/",
        (
            "for f in <a>/*; do grep -q '^From: <p>$' $f && mv $f <b>/; done",
            "grep -l 'From: <p>' <a>/* | xargs -I F mv F <b>",
            "find <a> -name '*.msg' -exec grep -q '^From: <p>' {} \\; -exec mv {} <b>/ \\;",
            "for f in $(awk '/^From: <p>$/{print FILENAME}' <a>/*); do cp $f <b>/ && rm $f; done",
        ),
    ),
    "mail_unread": (
        r"'Status: new' (?P<a>\S+)/\*\.msg \| wc -l > (?P<out>\S+)",
        (
            "n=0; for f in <a>/*; do grep -q '^Status: new' $f && n=$((n+1)); done; echo $n > <out>",
            "awk '/^Status: new/{n++} END{print n+0}' <a>/* > <out>",
            "grep -h '^Status: new$' <a>/* | wc -l > <out>",
            "cat <a>/*.msg | sed -n '/^Status: new/p' | grep -c . > <out>",
        ),
    ),
    "mail_subjects": (
        r"//p' (?P<a>\S+)/\*\.msg > (?P<out>\S+)",
        (
            "awk '/^Subject: /{print $2}' <a>/* > <out>",
            "cat <a>/*.msg | sed -n 's/^Subject: //p' > <out>",
        ),
    ),
    "mail_forward": (
        r"'To: (?P<p>\w+)'; cat (?P<m>\S+); \} > (?P<c>\S+)",
        (
            "printf 'To: <p>\\n' > <c>; cat <m> >> <c>; sed -i 's/Status: new/Status: forwarded/' <m>",
            "sed '1i To: <p>' <m> > <c>; sed 's/^Status: new$/Status: forwarded/' <m> > <tmp>; mv <tmp> <m>",
            "cp <m> <c>; sed -i '1iTo: <p>' <c>; sed -i '/^Status/cStatus: forwarded' <m>",
            "echo 'To: <p>' | cat - <m> > <c>; awk '/^Status: new/{$2=\"forwarded\"} 1' <m> > <tmp>; cat <tmp> > <m>",
        ),
    ),
    "ticket_close": (
        r"closed/' (?P<t>\S+)\nmv \S+ (?P<d>\S+)/",
        (
            "sed 's/^state: open/state: closed/' <t> > <d>/$(basename <t>); rm <t>",
            "mv <t> <d>; sed -i 's/^state:.*/state: closed/' <d>/${f:-$(basename <t>)}",
            "awk '/^state:/{$2=\"closed\"} 1' <t> > <tmp>; mv <tmp> <d>/$(basename <t>) && rm <t>",
            "sed -i '/^state/s/open/closed/' <t>; cp <t> <d>/ && unlink <t>",
        ),
    ),
    "ticket_assign": (
        r"owner: (?P<o>\w+)/' \$\(grep -l 'title: (?P<t>\w+)' (?P<d>\S+)/\*",
        (
            "for f in <d>/*; do grep -q '^title: <t>$' $f && sed -i 's/^owner:.*/owner: <o>/' $f; done",
            "f=$(grep -rl '^title: <t>' <d>); awk '/^owner:/{$2=\"<o>\"} 1' $f > <tmp>; cat <tmp> > $f",
            "find <d> -type f -exec grep -q 'title: <t>$' {} \\; -exec sed -i '/^owner/cowner: <o>' {} \\;",
            "f=$(awk '/^title: <t>$/{print FILENAME}' <d>/*); sed \"2s/.*/owner: <o>/\" $f > <tmp> && mv <tmp> $f",
        ),
    ),
    "ticket_open": (
        r"'state: open' (?P<d>\S+)/\* > (?P<out>\S+)",
        (
            "for f in <d>/*; do if grep -q '^state: open' $f; then echo $f; fi; done > <out>",
            "grep -c '^state: open' <d>/* | sed -n 's/:1$//p' > <out>",
        ),
    ),
    "ticket_purge": (
        r"'state: closed' (?P<d>\S+)/\*",
        (
            "for f in <d>/*; do grep -q '^state: closed' $f && rm $f; done",
            "find <d> -type f -exec grep -q 'state: closed' {} \\; -delete",
            "awk '/^state: closed/{print FILENAME}' <d>/* | xargs rm -f",
            "grep -rl '^state: closed$' <d> | while read f; do unlink $f; done",
        ),
    ),
    "schedule_add": (
        r"echo '(?P<l>.*)' >> (?P<f>\S+)",
        (
            "printf '%s' '<l>' >> <f>",
            "cat >> <f> <<'E'\n<l>\nE",
            "{ cat <f>; echo '<l>'; } > <tmp>; mv <tmp> <f>",
            "sed -i '$a<l>' <f>",
        ),
    ),
    "schedule_shift": (
        r"/ (?P<j>\w+)\$/s/\^(?P<m>\d+) (?P<a>\d+) /\d+ (?P<b>\d+) /' (?P<f>\S+)",
        (
            "awk '$6==\"<j>\"{$2=<b>} 1' <f> > <tmp>; mv <tmp> <f>",
            "grep -v ' <j>$' <f> > <tmp>; echo '<m> <b> * * * <j>' >> <tmp>; mv <tmp> <f>",
            "set -f; while read -r m h r; do case $r in *' <j>') h=<b>;; esac; echo \"$m $h $r\"; done < <f> > <tmp>; mv <tmp> <f>",
            "sed 's/^\\([0-9]*\\) <a> \\(.* <j>\\)$/\\1 <b> \\2/' <f> > <tmp> && cat <tmp> > <f>",
        ),
    ),
    "schedule_pause": (
        r"/ (?P<j>\w+)\$/s/\^/#/' (?P<f>\S+)",
        (
            'awk \'$6=="<j>"{$0="#"$0} 1\' <f> > <tmp>; mv <tmp> <f>',
            "sed '/ <j>$/s/^/# /' <f> > <tmp> && cp <tmp> <f>",
            'while IFS= read -r l || [ -n "$l" ]; do case $l in *\' <j>\') l="#$l";; esac; echo "$l"; done < <f> > <tmp>; cat <tmp> > <f>',
            "sed -i 's/^[0-9].* <j>$/#&/' <f>",
        ),
    ),
    "schedule_due": (
        r"\$2 == (?P<h>\d+) \{ print \$6 \}' " + SRC_OUT,
        (
            "set -f; while read -r m h a b c j; do [ $h = <h> ] && echo $j; done < <src> > <out>",
            "sed -n 's/^[0-9]* <h> .* //p' <src> > <out>",
        ),
    ),
    "service_switch": (
        r"sh (?P<f>\S+) (?P<v>\w+)",
        ("dash <f> <v>", "sh $PWD/<f> <v>", "set -- <v>; . ./<f>", "cat <f> | sh -s <v>"),
    ),
    "service_port": (
        r"port=(?P<p>\d+)/' (?P<c>\S+)\nsh (?P<f>\S+) restart",
        (
            "awk -F= -v OFS== '$1==\"port\"{$2=<p>} 1' <c> > <tmp>; cat <tmp> > <c>; sh <f> restart",
            "sed 's/^port=[0-9]*/port=<p>/' <c> > <tmp> && mv <tmp> <c> && sh ./<f> restart",
            'while read -r l || [ -n "$l" ]; do case $l in port=*) l=port=<p>;; esac; echo $l; done < <c> > <tmp>; mv <tmp> <c>; sh <f> restart',
            "sed -i '/^port/cport=<p>' <c>; set -- restart; . ./<f>",
        ),
    ),
    "service_running": (
        r"cd (?P<d>\S+) && grep -l running \*\) > (?P<out>\S+)",
        (
            'for f in <d>/*; do [ "$(cat $f)" = running ] && basename $f; done > <out>',
            "grep -lx running <d>/* | xargs -n 1 basename | sort -r > <out>",
            "grep -rlw running <d> | awk -F/ '{print $NF}' > <out>",
            "awk '/^running/{sub(/.*\\//,\"\",FILENAME); print FILENAME}' <d>/* > <out>",
            "grep -l running <d>/* > <out>",
        ),
    ),
    "service_enable": (
        r"echo (?P<n>\w+) >> (?P<l>\S+)\nsh (?P<f>\S+) start",
        (
            "printf '%s\\n' <n> >> <l>; sh <f> start",
            "sed -i '$a<n>' <l> && sh ./<f> start",
            "{ cat <l>; echo <n>; } > <tmp>; mv <tmp> <l>; dash <f> start",
            "cat >> <l> <<E\n<n>\nE\ncat <f> | sh -s start",
        ),
    ),
    "process_stop": (
        r"cat (?P<n>\w+)\.pid",
        (
            "kill -TERM $(cat <n>.pid); sleep 1",
            "kill -15 `cat <n>.pid`; while [ -e <n>.pid ]; do sleep 0.1; done",
            "read p < <n>.pid; kill -s TERM $p; sleep 1",
            "pkill -TERM -f '<n>.sh wait'; sleep 1",
        ),
    ),
    "process_reload": (
        r"=\.\*/(?P<k>\w+)=(?P<v>\w+)/' (?P<n>\w+)\.conf",
        (
            'awk -F= -v OFS== \'$1=="<k>"{$2="<v>"} 1\' <n>.conf > <tmp>; cat <tmp> > <n>.conf; kill -1 $(cat <n>.pid); sleep 1',
            "grep -v ^<k>= <n>.conf > <tmp>; echo <k>=<v> >> <tmp>; mv <tmp> <n>.conf; kill -HUP $(cat <n>.pid); sleep 1",
            "sed -i '/^<k>=/c<k>=<v>' <n>.conf; read p < <n>.pid; kill -s HUP $p; sleep 1",
            "sed 's/^<k>=.*/<k>=<v>/' <n>.conf > <tmp> && mv <tmp> <n>.conf; pkill -HUP -f '<n>.sh wait'; sleep 1",
        ),
    ),
    "process_report": (
        r"mv (?P<n>\w+)\.report (?P<out>\S+)",
        (
            "kill -USR1 $(cat <n>.pid); sleep 1; cp <n>.report <out>; rm <n>.report",
            "kill -10 $(cat <n>.pid); while [ ! -s <n>.report ]; do sleep 0.1; done; mv <n>.report <out>",
            "read p < <n>.pid; kill -s USR1 $p; sleep 1; cat <n>.report > <out>; rm -f <n>.report",
            "pkill -USR1 -f '<n>.sh wait'; sleep 1; mv ./<n>.report ./<out>",
        ),
    ),
    "process_start": (
        r"sh (?P<n>\w+)\.sh",
        (
            "rm -f <n>.lock; ./<n>.sh",
            "unlink <n>.lock && dash <n>.sh",
            "mv <n>.lock /tmp/; sh ./<n>.sh",
            "find . -name <n>.lock -delete; sh $PWD/<n>.sh; sleep 1",
        ),
    ),
    "process_one": (
        r"grep -l (?P<j>\w+) \*\.job\nkill \$\(cat (?P<n>\w+)\.pid",
        (
            "for f in *.job; do [ $(cat $f) = <j> ] && kill $(cat ${f%.job}.pid); done; sleep 1",
            "n=$(grep -l <j> *.job); kill -TERM $(cat ${n%.job}.pid); sleep 1",
            "kill -15 $(cat $(grep -l '<j>' *.job | sed 's/job$/pid/')); sleep 1",
            'pkill -TERM -f "$(grep -lx <j> *.job | cut -d. -f1).sh wait"; sleep 1',
        ),
    ),
    "compare_missing": (
        r"comm -23 (?P<a>\S+) (?P<b>\S+) > (?P<out>\S+)",
        (
            'while read -r l || [ -n "$l" ]; do grep -qx "$l" <b> || echo "$l"; done < <a> > <out>',
            "awk 'NR==FNR{s[$0];next} !($0 in s)' <b> <a> > <out>",
            "diff <a> <b> | sed -n 's/^< //p' > <out>",
        ),
    ),
    "compare_folders": (
        r"ls (?P<a>\S+)\); do cmp -s \S+ (?P<b>\w+)/\$f .* > (?P<out>\S+)$",
        (
            "diff -q <a> <b> | awk '{print $2}' | xargs basename > <out>",
            "for f in <a>/*; do diff -q $f <b>/${f##*/} > /dev/null || echo ${f##*/}; done > <out>",
            "(cd <a>; cksum *) > <tmp>; (cd <b>; cksum *) | diff <tmp> - | awk '/^</{print $NF}' > <out>",
            'for f in <a>/*; do [ "$(cat $f)" = "$(cat <b>/$(basename $f))" ] || printf %s $f; done > <out>',
        ),
    ),
    "survey_largest": (
        r"ls -S (?P<d>\S+) \| head -n 1 > (?P<out>\S+)",
        (
            "for f in <d>/*; do echo \"$(wc -c < $f) $f\"; done | sort -n | tail -1 | sed 's/.*\\///' > <out>",
            "find <d> -type f -printf '%s %f\\n' | sort -rn | awk 'NR==1{print $2}' > <out>",
            "ls -l <d> | awk '$5>m{m=$5;n=$NF} END{print n}' > <out>",
            "stat -c '%s %n' <d>/* | sort -n | tail -n 1 | cut -d' ' -f2 > <out>",
        ),
    ),
    "survey_empty": (
        r"find (?P<d>\S+) -type f -empty",
        (
            "for f in <d>/*; do [ -s $f ] || rm $f; done",
            "find <d> -size 0 -type f | xargs rm",
            "for f in <d>/*; do [ $(wc -c < $f) -eq 0 ] && unlink $f; done",
            "ls -l <d> | awk -v d=<d> '$5==0{print d\"/\"$NF}' | xargs rm -f",
        ),
    ),
}

# Answers that are right where no order was asked; where later work goes on with the file, its directive asks for one.
ANY_ORDER: dict[str, tuple[str, ...]] = {
    "archive_contents": ("tar tf <f> | sort -r > <out>", "for m in $(tar tf <f>); do echo ./$m; done > <out>"),
    "mail_subjects": (
        "grep -rh '^Subject: ' <a> | sed 's/Subject: //' > <out>",
        "for f in <a>/*; do sed -n 's/^Subject: //p' $f; done | sort > <out>",
        "grep -h Subject: <a>/* | cut -d' ' -f2- | tac > <out>",
    ),
    "ticket_open": (
        "grep -rl 'state: open' <d> > <out>",
        "for f in <d>/*; do grep -q '^state: open' $f && echo $f; done | sort -r > <out>",
        "find <d> -type f -exec grep -l 'state: open' {} + > <out>",
        "awk '/^state: open/{print \"./\" FILENAME}' <d>/* > <out>",
    ),
    "schedule_due": (
        "grep -E '^[0-9]+ <h> ' <src> | awk '{print $NF}' | sort > <out>",
        "cut -d' ' -f2,6 <src> | grep '^<h> ' | cut -d' ' -f2 | tac > <out>",
    ),
    "compare_missing": ("comm -2 -3 <a> <b> | tac > <out>",),
}
# Utilities take their words from documentation of their own, so an answer is written there with those in hand.
OWN = {name for name in AUTHORS if name.startswith("tool_")}
WRAPPED = ("sh -c '{}'", "( {} )", "{{ {}; }} && :", "eval '{}'")


def answers(name, commands, *, in_order=False, aside="x"):
    """Return the other right answers to one piece of work.

    Args:
        name: of its archetype.
        commands: of its reference solution.
        in_order: its directive asks for an order.
        aside: name of the file that an answer puts something aside in, `<tmp>`; no other answer of a session uses it.
    """
    solution = "\n".join(commands)
    if name in OWN:
        return [template.format(solution.replace("'", "'\\''")) for template in WRAPPED]
    pattern, templates = ALTERNATIVES[name]
    templates += () if in_order else ANY_ORDER.get(name, ())
    found = re.search(pattern, solution, re.MULTILINE)
    assert found, (pattern, solution)
    facts = {"tmp": aside} | found.groupdict()
    return [re.sub(r"<(\w+)>", lambda m: facts.get(m[1], m[0]), template) for template in templates]
