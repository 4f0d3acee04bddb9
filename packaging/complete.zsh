# What zsh offers for the words in $1, as if somebody pressed Tab.
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PROMPT= ; autoload -Uz compinit; compinit -u -D; zstyle ":completion:*" list-prompt ""; print -n rea; print dy'
zpty -r -m shell line '*ready*'
zpty -w -n shell "$1"$'\t'
sleep 2
zpty -r -t shell line
print -r -- "${line//[^[:print:]]/}"
zpty -d shell
