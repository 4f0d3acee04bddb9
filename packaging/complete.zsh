# What zsh makes of the words in $1 when somebody presses Tab.
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PROMPT=; autoload -Uz compinit; compinit -u -D; print -n rea; print dy'
zpty -r -m shell line '*ready*'
zpty -w -n shell "$1"$'\t'
for i in {1..50}; do
    sleep 0.1
    while zpty -r -t shell chunk; do line+=$chunk; done
done
print -r -- "${${line##*ready}//[^[:print:]]/ }"
zpty -d shell
