# bash completion for modelspend; made by: modelspend completions bash
_modelspend() {
    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"
    local path="" word index words="" options=""
    for ((index = 1; index < COMP_CWORD; index++)); do
        word="${COMP_WORDS[index]}"
        case "$word" in
            --after|--agree|--at|--body|--budget|--by|--cache-hit|--cache-read|--cache-write-1h|--cache-write-5m|--cached-audio|--category|--checkpoint|--config|--delay|--dialect|--each|--every|--export|--export-checkpoint|--fail-at|--fail-if|--failed|--fault|--fees|--file|--for|--format|--from|--growth|--horizon|--host|--hourly|--input|--input-audio|--input-image|--jobs|--json|--judge|--keep-days|--key|--last|--latency|--limit|--log|--log-format|--log-level|--max-usd|--min-cost|--min-latency|--mix|--model|--models|--monthly-spend|--n|--name|--out|--output|--output-audio|--output-image|--people|--period|--plot|--policy|--port|--price|--profile|--provider|--reason|--region|--request-per-1k|--retry-after|--rotate-mb|--sample|--savings|--scope|--scores|--seed|--session|--set|--setup-hours|--shift-deep|--shift-to|--since|--state|--status|--suite|--system|--tag|--tenant|--tier|--tolerance|--tool-call-per-1k|--type|--until|--upkeep-hours|--view|--wait|--web-search-per-1k|--webhook|--where|--window|--workflow|--zone|-n) ((index++)) ;;
            -*) ;;
            *) case " $path/$word " in
                " /demo "|" /serve "|" /run "|" /up "|" /down "|" /reload "|" /status "|" /top "|" /doctor "|" /init "|" /config "|" /config/show "|" /config/check "|" /config/path "|" /tail "|" /receipts "|" /receipts/list "|" /receipts/search "|" /receipts/show "|" /receipts/path "|" /explain "|" /route "|" /circuits "|" /circuits/list "|" /circuits/history "|" /circuits/trip "|" /circuits/reset "|" /incidents "|" /failovers "|" /events "|" /webhooks "|" /webhooks/list "|" /webhooks/test "|" /webhooks/deliveries "|" /webhooks/dead "|" /webhooks/retry "|" /sinks "|" /sinks/list "|" /sinks/forget "|" /drill "|" /replay "|" /cassette "|" /cassette/record "|" /cassette/play "|" /cassette/diff "|" /backtest "|" /spend "|" /savings "|" /mix "|" /latency "|" /tenants "|" /alerts "|" /alerts/list "|" /alerts/test "|" /alerts/silence "|" /forecast "|" /roi "|" /cache-misses "|" /export "|" /export/ledger "|" /export/traces "|" /export/siem "|" /verify "|" /backup "|" /restore "|" /reconcile "|" /prices "|" /prices/list "|" /prices/show "|" /prices/set "|" /prices/quote "|" /budgets "|" /budgets/list "|" /budgets/set "|" /budgets/holds "|" /budgets/history "|" /kill "|" /eval "|" /eval/import "|" /eval/scores "|" /eval/run "|" /simulate "|" /completions "|" /help ") path="$path/$word" ;;
            esac ;;
        esac
    done
    case "$previous" in
        --log-level) COMPREPLY=($(compgen -W "debug info warning error" -- "$current"))
            return ;;
        --status) COMPREPLY=($(compgen -W "success error truncated client_disconnect refused budget_stopped interrupted cached" -- "$current"))
            return ;;
        --since) COMPREPLY=($(compgen -W "1h 24h 7d 30d today mtd ytd" -- "$current"))
            return ;;
        --view) COMPREPLY=($(compgen -W "on-call finance security" -- "$current"))
            return ;;
        --body|--checkpoint|--config|--export|--export-checkpoint|--file|--from|--json|--key|--log|--out|--plot|--policy|--scores|--system) COMPREPLY=($(compgen -f -- "$current")); return ;;
        --after|--agree|--at|--body|--budget|--by|--cache-hit|--cache-read|--cache-write-1h|--cache-write-5m|--cached-audio|--category|--checkpoint|--config|--delay|--dialect|--each|--every|--export|--export-checkpoint|--fail-at|--fail-if|--failed|--fault|--fees|--file|--for|--format|--from|--growth|--horizon|--host|--hourly|--input|--input-audio|--input-image|--jobs|--json|--judge|--keep-days|--key|--last|--latency|--limit|--log|--log-format|--log-level|--max-usd|--min-cost|--min-latency|--mix|--model|--models|--monthly-spend|--n|--name|--out|--output|--output-audio|--output-image|--people|--period|--plot|--policy|--port|--price|--profile|--provider|--reason|--region|--request-per-1k|--retry-after|--rotate-mb|--sample|--savings|--scope|--scores|--seed|--session|--set|--setup-hours|--shift-deep|--shift-to|--since|--state|--status|--suite|--system|--tag|--tenant|--tier|--tolerance|--tool-call-per-1k|--type|--until|--upkeep-hours|--view|--wait|--web-search-per-1k|--webhook|--where|--window|--workflow|--zone|-n) return ;;
    esac
    case "$path" in
        "") words="demo serve run up down reload status top doctor init config tail receipts explain route circuits incidents failovers events webhooks sinks drill replay cassette backtest spend savings mix latency tenants alerts forecast roi cache-misses export verify backup restore reconcile prices budgets kill eval simulate completions help" options="--config --version -h --help" ;;
        /demo) words="" options="--port --once --keep --real --json --config -h --help" ;;
        /serve) words="" options="--host --port --log-level --log-format --config -h --help" ;;
        /run) words="" options="--tag --tenant --workflow --json --max-usd --config -h --help" ;;
        /up) words="" options="--wait --json --config -h --help" ;;
        /down) words="" options="--now --json --config -h --help" ;;
        /reload) words="" options="--json --config -h --help" ;;
        /status) words="" options="--json --config -h --help" ;;
        /top) words="" options="--once --window --every --json --config -h --help" ;;
        /doctor) words="" options="--full --json --config -h --help" ;;
        /init) words="" options="--yes --systemd --launchd --json --config -h --help" ;;
        /config) words="show check path" options="-h --help" ;;
        /config/show) words="" options="--json --all --config -h --help" ;;
        /config/check) words="" options="--json --config -h --help" ;;
        /config/path) words="" options="--json --config -h --help" ;;
        /tail) words="" options="-n --last --follow --no-follow --json --tenant --workflow --model --provider --category --status --session --min-cost --min-latency --priced --unpriced --region --tag --hopped --not-hopped --failed --since --until --view --config -h --help" ;;
        /receipts) words="list search show path" options="-h --help" ;;
        /receipts/list) words="" options="-n --limit --after --json --csv --tenant --workflow --model --provider --category --status --session --min-cost --min-latency --priced --unpriced --region --tag --hopped --not-hopped --failed --since --until --view --config -h --help" ;;
        /receipts/search) words="" options="-n --limit --json --csv --tenant --workflow --model --provider --category --status --session --min-cost --min-latency --priced --unpriced --region --tag --hopped --not-hopped --failed --since --until --view --config -h --help" ;;
        /receipts/show) words="" options="--json --config -h --help" ;;
        /receipts/path) words="" options="--json --config -h --help" ;;
        /explain) words="" options="--json --config -h --help" ;;
        /route) words="" options="--body --file --dialect --profile --tenant --json --config -h --help" ;;
        /circuits) words="list history trip reset" options="-h --help" ;;
        /circuits/list) words="" options="--provider --json --config -h --help" ;;
        /circuits/history) words="" options="--provider --since --until -n --limit --json --config -h --help" ;;
        /circuits/trip) words="" options="--for --json --config -h --help" ;;
        /circuits/reset) words="" options="--json --config -h --help" ;;
        /incidents) words="" options="--open --provider --since --until -n --limit --json --config -h --help" ;;
        /failovers) words="" options="--tenant --provider --since --until -n --limit --after --json --config -h --help" ;;
        /events) words="" options="--type --tenant --provider --since --after -n --limit -f --follow --json --config -h --help" ;;
        /webhooks) words="list test deliveries dead retry" options="-h --help" ;;
        /webhooks/list) words="" options="--json --config -h --help" ;;
        /webhooks/test) words="" options="--json --config -h --help" ;;
        /webhooks/deliveries) words="" options="--status -n --limit --json --config -h --help" ;;
        /webhooks/dead) words="" options="-n --limit --json --config -h --help" ;;
        /webhooks/retry) words="" options="--all --webhook --json --config -h --help" ;;
        /sinks) words="list forget" options="-h --help" ;;
        /sinks/list) words="" options="--json --config -h --help" ;;
        /sinks/forget) words="" options="--yes --json --config -h --help" ;;
        /drill) words="" options="--provider --for --at --delay --retry-after --period --simulated --json --config -h --help" ;;
        /replay) words="" options="--model --profile --n --system --set --dry-run --max-usd --cache --where --sample --out --scores --agree --json --config -h --help" ;;
        /cassette) words="record play diff" options="-h --help" ;;
        /cassette/record) words="" options="--max-usd --config -h --help" ;;
        /cassette/play) words="" options="--max-usd --fault --every --config -h --help" ;;
        /cassette/diff) words="" options="--format --fail-if --json --config -h --help" ;;
        /backtest) words="" options="--policy --fail-if --json --csv --tenant --workflow --model --provider --category --status --session --min-cost --min-latency --priced --unpriced --region --tag --hopped --not-hopped --failed --since --until --view --config -h --help" ;;
        /spend) words="" options="--by -n --limit --json --csv --plot --tenant --workflow --model --provider --category --status --session --min-cost --min-latency --priced --unpriced --region --tag --hopped --not-hopped --failed --since --until --view --config -h --help" ;;
        /savings) words="" options="--by -n --limit --json --csv --plot --tenant --workflow --model --provider --category --status --session --min-cost --min-latency --priced --unpriced --region --tag --hopped --not-hopped --failed --since --until --view --config -h --help" ;;
        /mix) words="" options="--by -n --limit --json --csv --plot --tenant --workflow --model --provider --category --status --session --min-cost --min-latency --priced --unpriced --region --tag --hopped --not-hopped --failed --since --until --view --config -h --help" ;;
        /latency) words="" options="--by -n --limit --json --csv --plot --tenant --workflow --model --provider --category --status --session --min-cost --min-latency --priced --unpriced --region --tag --hopped --not-hopped --failed --since --until --view --config -h --help" ;;
        /tenants) words="" options="--by -n --limit --json --csv --plot --tenant --workflow --model --provider --category --status --session --min-cost --min-latency --priced --unpriced --region --tag --hopped --not-hopped --failed --since --until --view --config -h --help" ;;
        /alerts) words="list test silence" options="-n --limit --fail-at --json --csv --tenant --workflow --model --provider --category --status --session --min-cost --min-latency --priced --unpriced --region --tag --hopped --not-hopped --failed --since --until --view --config -h --help" ;;
        /alerts/list) words="" options="--state --json --config -h --help" ;;
        /alerts/test) words="" options="--json --config -h --help" ;;
        /alerts/silence) words="" options="--for --scope --lift --json --config -h --help" ;;
        /forecast) words="" options="--horizon --by --from --budget --plot --shift-deep --shift-to --cache-hit --growth --mix --json --csv --tenant --workflow --model --provider --category --status --session --min-cost --min-latency --priced --unpriced --region --tag --hopped --not-hopped --failed --since --until --view --config -h --help" ;;
        /roi) words="" options="--monthly-spend --savings --people --setup-hours --hourly --upkeep-hours --fees --json --tenant --workflow --model --provider --category --status --session --min-cost --min-latency --priced --unpriced --region --tag --hopped --not-hopped --failed --since --until --view --config -h --help" ;;
        /cache-misses) words="" options="--by -n --limit --json --tenant --workflow --model --provider --category --status --session --min-cost --min-latency --priced --unpriced --region --tag --hopped --not-hopped --failed --since --until --view --config -h --help" ;;
        /export) words="ledger traces siem" options="-h --help" ;;
        /export/ledger) words="" options="--format --period --by --out --tenant --workflow --model --provider --category --status --session --min-cost --min-latency --priced --unpriced --region --tag --hopped --not-hopped --failed --since --until --view --config -h --help" ;;
        /export/traces) words="" options="--out --tenant --workflow --model --provider --category --status --session --min-cost --min-latency --priced --unpriced --region --tag --hopped --not-hopped --failed --since --until --view --config -h --help" ;;
        /export/siem) words="" options="--format --since --after --tenant --type -f --follow --out --rotate-mb --gzip --keep-days --json --config -h --help" ;;
        /verify) words="" options="--checkpoint --export --export-checkpoint --key --json --config -h --help" ;;
        /backup) words="" options="--yes --json --config -h --help" ;;
        /restore) words="" options="--yes --json --config -h --help" ;;
        /reconcile) words="" options="--provider --check --tolerance --json --csv --config -h --help" ;;
        /prices) words="list show set quote" options="-h --help" ;;
        /prices/list) words="" options="--provider --model --json --config -h --help" ;;
        /prices/show) words="" options="--at --json --config -h --help" ;;
        /prices/set) words="" options="--input --output --cache-read --cache-write-5m --cache-write-1h --input-audio --output-audio --cached-audio --input-image --output-image --web-search-per-1k --tool-call-per-1k --request-per-1k --from --until --clear --json --config -h --help" ;;
        /prices/quote) words="" options="--file --provider --model --input --output --cache-read --cache-write-5m --cache-write-1h --tier --at --json --config -h --help" ;;
        /budgets) words="list set holds history" options="-h --help" ;;
        /budgets/list) words="" options="--scope --name --each --json --config -h --help" ;;
        /budgets/set) words="" options="--max-usd --unlimited --window --zone --hard --warn --clear --json --config -h --help" ;;
        /budgets/holds) words="" options="--json --config -h --help" ;;
        /budgets/history) words="" options="--window --zone --limit --json --config -h --help" ;;
        /kill) words="" options="--reason --lift --json --config -h --help" ;;
        /eval) words="import scores run" options="-h --help" ;;
        /eval/import) words="" options="--category --json --config -h --help" ;;
        /eval/scores) words="" options="--category --model --json --config -h --help" ;;
        /eval/run) words="" options="--suite --models --judge --max-usd --resume --limit --jobs --json --config -h --help" ;;
        /simulate) words="" options="--port --log --sync --latency --seed --price --list --json --config -h --help" ;;
        /completions) words="bash zsh fish" options="--config -h --help" ;;
        /help) words="quickstart alerts backtest backup budgets clients config datadog drill durability eval exit-codes export failover forecast http otel prices privacy receipts reconcile replay reports routing service siem simulate verify webhooks claims" options="--json --config -h --help" ;;
    esac
    [[ "$current" == -* ]] && words="$options"
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _modelspend modelspend
