//! Embeds which sources the binary is built from.

include!("../common/build_identity.rs");

fn main() {
    build_identity(&[
        "Cargo.toml",
        "Cargo.lock",
        "common/Cargo.toml",
        "common/build_identity.rs",
        "common/src",
        "orchestrator/Cargo.toml",
        "orchestrator/build.rs",
        "orchestrator/src",
        "templates",
    ]);
}
