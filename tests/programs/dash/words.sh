# Expansions, quoting, fields and patterns.
a=hello b= unset_one=; unset c
echo "${a}" "${#a}" "${b:-empty}" "${b-unset}" "${c:-default}" "${c:=assigned}" "$c" "${a:+yes}" "${b:+no}"
p=/usr/local/lib/x.tar.gz
echo "${p##*/}" "${p%.*}" "${p%%.*}" "${p#*/}" "${p%/*}"
set -- one 'two words' three
for w in "$@"; do echo "<$w>"; done
for w in $*; do echo "[$w]"; done
IFS=:; set -- $p:x:y; echo $#; IFS=,; echo "$*"; IFS=' 
	'
v='a  b   c'; echo $v; echo "$v"; set -- $v; echo $#
echo 'single $a "x"' "double \$a \"x\" \\" plain\ space
: > f1; : > f2; : > g.txt
echo f*; echo [fg]*; echo ?1; echo nothing*; echo "f*"; set -f; echo f*; set +f
echo ~nobody > /dev/null
case hello.c in *.[ch]) echo source;; *) echo other;; esac
case "a*b" in "a*b") echo literal;; esac
case x in [!a-c]) echo not abc;; esac
cat_here() { while IFS= read -r line; do echo "> $line"; done; }
cat_here <<EOF
value $a \$a
	tab
EOF
cat_here <<'EOF'
no $a `b`
EOF
cat_here <<-EOF
	stripped
EOF
printf '%s|%5s|%-5s|%05d|%x|%o|%e|%.2f|%c|%%\n' a b c 42 255 8 12345.678 3.14159 xyz
printf '%b' 'a\tb\0101\n'; printf '%d %s\n' 1 one 2 two
printf '%d\n' 12x; echo "status $?"
echo ${nosuch?is missing}
