# Commands for whoever works on this project; `just --list` shows them.

# What must pass before anything lands.
check:
    .ci/run

# One test, by a part of its name.
test NAME:
    cargo test --locked {{NAME}}

# The simulated plant for so many virtual hours, with fresh seeds.
plant HOURS="10000":
    PLANT_HOURS={{HOURS}} cargo test --release --locked --test plant fresh -- --nocapture

# One run of the plant again.
plant-seed SEED:
    PLANT_SEED={{SEED}} cargo test --locked --test plant fixed -- --nocapture

# The noisy line for so many cases, with fresh seeds.
line CASES="20000":
    LINE_CASES={{CASES}} cargo test --release --locked --test line fresh -- --nocapture

# The way from the readings to the servers for so many virtual days, with fresh seeds.
days DAYS="5000":
    DELIVERY_DAYS={{DAYS}} cargo test --release --locked --test thirty_days fresh -- --nocapture

# Faults at random for so many minutes, and what became of each reading.
soak MINUTES="20" SEED="1":
    cargo run --release --locked --example soak -- --seed {{SEED}} --minutes {{MINUTES}}

# The agent is ended at each of its system calls.
crashpoints:
    cargo run --release --locked --example crashpoints

# Old faults are put back; each must be noticed.
broken *NAMES:
    cargo run --locked --example broken -- {{NAMES}}

# What it costs, and beside whom.
bench:
    cargo run --release --locked --example bench

# The book, into target/book; needs mkdocs-material.
book:
    mkdocs build --strict

# What is released: .deb, .rpm, static tarballs, SBOM, SHA256SUMS, in target/packages.
packages *WHAT:
    setup/packages/build {{WHAT}}

# What the dependencies may be, and what is known against them.
deny:
    cargo deny check
