# Arrays, associative arrays, expansions, here strings, regular expressions, printf.
a=(one two 'three four' [7]=seven); echo "${a[@]}" "${#a[@]}" "${!a[@]}" "${a[2]}" "${a[-1]}" "${a[@]:1:2}"
a+=(eight); unset 'a[0]'; echo "${a[*]}"; printf '<%s>' "${a[@]}"; echo
declare -A m=([x]=1 [y z]=2); m[w]=3; for k in x 'y z' w; do echo "$k=${m[$k]}"; done; echo ${#m[@]}; unset 'm[x]'; [[ -v m[x] ]] || echo gone
s='Hello World'; echo "${s:6}" "${s: -5:3}" "${s/o/0}" "${s//o/0}" "${s/#Hello/Bye}" "${s/%World/All}" "${s^^}" "${s,,}" "${s~~}" "${s^}" "${#s}"
echo "${s@Q}" "${s@U}" "${a[@]@A}"; n=s; echo "${!n}"; declare -n ref=s; ref=changed; echo "$s"; for v in "${!BASH_VERSIN@}"; do echo "$v"; done
echo {1..5} {a..e..2} {01..03} x{a,b{1,2}}y
[[ 'foo123bar' =~ ([a-z]+)([0-9]+) ]] && echo "${BASH_REMATCH[@]}"; [[ abc == a?c && abc != b* && abc < abd ]] && echo match
shopt -s extglob nullglob; touch_all() { local f; for f; do : > "$f"; done; }; touch_all a1 a2 b1 .h
echo @(a|b)[12] !(a*|script) none*; shopt -s dotglob; echo *; shopt -u dotglob extglob nullglob; echo none*
read -r x y <<< 'here string words'; echo "$y"; IFS=, read -ra parts <<< 'p,q,,r'; echo "${#parts[@]}:${parts[3]}"
mapfile -t lines <<< $'l1\nl2\nl3'; echo "${#lines[@]} ${lines[1]}"; mapfile -s 1 -n 1 -t lines <<< $'l1\nl2\nl3'; echo "${lines[@]}"
while read -rn 2 c; do echo "[$c]"; done <<< abcde; read -d : -r f <<< 'first:second'; echo $f
printf '%q %q\n' "it's" $'a\tb'; printf '%(%Y-%m-%d %H:%M)T\n' 86400; printf -v var '%03d-%s' 7 x; echo "$var"; printf '%*d|%-*s|\n' 5 42 6 ab
echo $'esc \x41 \u20ac \101 \'q\'' $((16#ff)) $((2**62)) $((2#1010)) $((36#z)) $((9223372036854775807 + 1))
(( i = 5, i++, i *= 2 )); echo $i $(( i > 10 ? i-- : 0 )) $i; let 'j = i ** 2' 'k = j % 7'; echo $j $k
for ((i = 0; i < 3; i++)); do echo -n "$i "; done; echo
select_case() { case $1 in a) echo a;;& [a-c]) echo abc;& z) echo z;; *) echo other;; esac; }; select_case a; select_case b; select_case q
sort_words() { local w=("$@") i j t; for ((i = 0; i < ${#w[@]}; i++)); do for ((j = i + 1; j < ${#w[@]}; j++)); do
  [[ ${w[j]} < ${w[i]} ]] && t=${w[i]} w[i]=${w[j]} w[j]=$t; done; done; echo "${w[@]}"; }; sort_words pear fig apple kiwi
