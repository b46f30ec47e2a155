//! A rank's place among the others, said in the variables that torchrun gives its processes.

use rocket_common::protocol::env;
use rocket_common::run_dir::RunDir;

/// Where a rank is. Ranks of a node are neighbours, and every node has as many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Global rank.
    pub(crate) rank: u32,
    /// Rank within its node.
    pub(crate) local_rank: u32,
    /// Number of ranks, W.
    pub(crate) world_size: u32,
    /// Ranks of each node.
    pub(crate) per_node: u32,
}

impl Place {
    /// Names and values. The node is torchrun's group, every rank has the one role `default`, and the
    /// attempt is its count of restarts. That the store is an agent's is not said: rank 0 serves it.
    pub(crate) fn variables(self, run: &RunDir, attempt: u32) -> Vec<(&'static str, String)> {
        let per_node = self.per_node.max(1);
        let node = self.rank.saturating_sub(self.local_rank) / per_node;
        vec![
            (env::RANK, self.rank.to_string()),
            (env::WORLD_SIZE, self.world_size.to_string()),
            (env::LOCAL_RANK, self.local_rank.to_string()),
            (env::LOCAL_WORLD_SIZE, per_node.to_string()),
            (env::GROUP_RANK, node.to_string()),
            (
                env::GROUP_WORLD_SIZE,
                self.world_size.div_ceil(per_node).to_string(),
            ),
            (env::ROLE_RANK, self.rank.to_string()),
            (env::ROLE_WORLD_SIZE, self.world_size.to_string()),
            (env::ROLE_NAME, "default".into()),
            (env::TORCHELASTIC_RUN_ID, run.id()),
            (env::TORCHELASTIC_RESTART_COUNT, attempt.to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_node_is_the_second_group() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = r#"{"schema": 1}"#;
        std::fs::write(dir.path().join("run.json"), manifest).unwrap();
        let run = RunDir::open(dir.path()).unwrap();
        let place = Place {
            rank: 5,
            local_rank: 1,
            world_size: 8,
            per_node: 4,
        };
        let said = place.variables(&run, 3);
        let of = |name: &str| {
            let found = said.iter().find(|(of, _)| *of == name);
            found.map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        let numbers = [
            "RANK",
            "LOCAL_RANK",
            "WORLD_SIZE",
            "LOCAL_WORLD_SIZE",
            "GROUP_RANK",
            "GROUP_WORLD_SIZE",
            "TORCHELASTIC_RESTART_COUNT",
        ];
        assert_eq!(numbers.map(of), ["5", "1", "8", "4", "1", "2", "3"]);
    }
}
