# `just` lists the recipes; `just check` is what CI runs. No just at hand? Run `.ci/run`.

# show the recipes
default:
    @just --list

# everything CI checks, in the same order
check:
    .ci/run

# format the sources in place
fmt:
    cargo fmt --all

# lint with the warnings CI refuses
lint:
    cargo clippy --release --locked --all-targets -- -D warnings

# every test; `just test breaker` runs those whose name contains "breaker"
test *FILTER:
    cargo test --release --locked {{FILTER}}

# the tests that need neither Python nor Node nor the network
test-offline *FILTER:
    QUORATE_SKIP_THIRD_PARTY=1 cargo test --release --locked {{FILTER}}

# the official clients and the test servers against the daemon, with their output
test-clients:
    cargo test --release --locked --test third_party -- --nocapture

# licences, bans and sources of the dependencies
deny:
    cargo deny check licenses bans sources

# the API documentation, opened in a browser
doc:
    cargo doc --release --locked --no-deps --open

# a daemon with its log in text form
serve *ARGS:
    cargo run --release --locked -- serve {{ARGS}}

# look for bytes that break a law of fuzz/laws; the targets are listed in fuzz/README.md
fuzz TARGET SECONDS="180":
    mkdir -p fuzz/grown/{{TARGET}}
    cargo +nightly fuzz run --sanitizer none {{TARGET}} fuzz/grown/{{TARGET}} fuzz/corpus/{{TARGET}} -- \
        -max_len=4096 -timeout=25 -max_total_time={{SECONDS}}
