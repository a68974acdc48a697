#!/bin/sh
# Have models pulled that are not there yet, through foreman (FOREMAN_ALLOW_ADMIN=1) or from Ollama.
#
#   deploy/pull-models.sh llama3.2 nomic-embed-text
#   deploy/pull-models.sh --file models.txt       a model a line; # begins a comment
#   MODELS="llama3.2 qwen3" deploy/pull-models.sh
#
# --url URL   whom to ask; else FOREMAN_URL, else http://127.0.0.1:8080. Ollama itself will do.
# --update    pull what is there, too: Ollama fetches what has changed since.
# FOREMAN_TOKEN is shown if it is set. Status 0: all are there; 1: some are not; 2: wrong usage.
set -eu

url=${FOREMAN_URL:-http://127.0.0.1:8080}
update=
models=

usage() {
    echo "pull-models.sh: $1" >&2
    echo "usage: pull-models.sh [--url URL] [--update] [--file FILE | MODEL...], or MODELS=..." >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
        --url | --file)
            [ $# -ge 2 ] || usage "$1 wants a value"
            if [ "$1" = --url ]; then
                url=$2
            else
                [ -r "$2" ] || usage "cannot read $2"
                models="$models $(sed 's/#.*//' "$2")"
            fi
            shift
            ;;
        --update) update=1 ;;
        -*) usage "unknown option $1" ;;
        *) models="$models $1" ;;
    esac
    shift
done
url=${url%/}
: "${models:=${MODELS:-}}"
command -v curl >/dev/null || usage "it needs curl"
set -f
# shellcheck disable=SC2086  # a list of words, none of them a pattern
set -- $models
[ $# -gt 0 ] || usage "no model named"

# The first client's secret, as the commands take it: name:secret,other:secret, or a bare one.
token=${FOREMAN_TOKEN:-}
token=${token%%,*}
token=${token#*:}

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ask PATH BODY: the answer on standard output, its status code on a last line of its own; 000 where
# there is no answer, and then curl has said why. The token does not show in the list of processes.
ask() {
    printf 'header = "Authorization: Bearer %s"\n' "$token" |
        curl --config - --silent --show-error --no-buffer --connect-timeout 10 \
            --header 'Content-Type: application/json' --data "$2" \
            --write-out '\n%{http_code}\n' "$url$1" || true
}

# A line for each step of a pull, at once; the counting within a step is left out.
steps() {
    last=
    while IFS= read -r line; do
        step=${line#*\"status\":\"}
        step=${step%%\"*}
        [ "$step" = "$last" ] || [ "$line" = "${line#*\"status\":\"}" ] || echo "  $step"
        last=$step
    done
}

told() { sed -n 's/.*"error": *"\(.*\)"}.*/\1/p' "$answer" | tail -n 1; }

failed=0
for model; do
    case $model in
        *[!A-Za-z0-9._:/@-]*) usage "no name of a model: $model" ;;
    esac
    ask /api/show "{\"model\": \"$model\"}" >"$answer"
    code=$(tail -n 1 "$answer")
    case $code in
        200)
            if [ -z "$update" ]; then
                echo "$model: there"
                continue
            fi
            ;;
        404) ;;
        *)
            hint=
            [ "$code" != 401 ] || hint=" (is FOREMAN_TOKEN right?)"
            echo "$model: cannot tell whether it is there: $url said $code $(told)$hint" >&2
            failed=1
            continue
            ;;
    esac
    echo "$model: pulling"
    ask /api/pull "{\"model\": \"$model\", \"stream\": true}" | tee "$answer" | steps
    if grep -q '"status": *"success"' "$answer"; then
        echo "$model: pulled"
    else
        echo "$model: not pulled: $url said $(tail -n 1 "$answer") $(told)" >&2
        failed=1
    fi
done
exit "$failed"
