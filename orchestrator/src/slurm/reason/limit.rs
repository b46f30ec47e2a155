//! The families of limits: `AssocGrp*`, `AssocMax*`, `QOSGrp*`, `QOSMax*`, `QOSMin*`, `Max*PerAccount`.
//! Their names are put together from who, what, measure and scope; so are their words.

use super::Explained;

/// Explains a limit by its name; `None` if it is not one.
pub(super) fn explain(text: &str, job: &str) -> Option<Explained> {
    let limit = Limit::parse(text)?;
    Some(limit.words(job))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Association,
    Qos,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    /// Of all jobs together.
    Group,
    /// Of one request.
    Max,
    /// Of one request, from below.
    Min,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Amount,
    /// A budget that is used up.
    Minutes,
    /// What running jobs may still use.
    RunMinutes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Per {
    Nothing,
    Job,
    Node,
    User,
    Account,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit {
    whose: Whose,
    bound: Bound,
    what: &'static str,
    measure: Measure,
    per: Per,
}

impl Limit {
    fn parse(text: &str) -> Option<Self> {
        // Names of versions before 16.05.
        let old = |whose, what, measure| {
            let per = Per::Nothing;
            Some(Self {
                whose,
                bound: Bound::Group,
                what,
                measure,
                per,
            })
        };
        match text {
            "AssociationJobLimit" => return old(Whose::Association, "jobs", Measure::Amount),
            "AssociationResourceLimit" => {
                return old(Whose::Association, "resources", Measure::Amount);
            }
            "AssociationTimeLimit" => return old(Whose::Association, "time", Measure::Minutes),
            "QOSJobLimit" => return old(Whose::Qos, "jobs", Measure::Amount),
            "QOSResourceLimit" => return old(Whose::Qos, "resources", Measure::Amount),
            "QOSTimeLimit" => return old(Whose::Qos, "time", Measure::Minutes),
            _ => {}
        }
        let (whose, rest) = match (text.strip_prefix("Assoc"), text.strip_prefix("QOS")) {
            (Some(rest), _) => (Whose::Association, rest),
            (_, Some(rest)) => (Whose::Qos, rest),
            // The limits of a QOS per account carry no prefix.
            _ if text.starts_with("Max") && text.ends_with("PerAccount") => (Whose::Qos, text),
            _ => return None,
        };
        let (bound, rest) = [
            ("Grp", Bound::Group),
            ("Max", Bound::Max),
            ("Min", Bound::Min),
        ]
        .into_iter()
        .find_map(|(prefix, bound)| Some((bound, rest.strip_prefix(prefix)?)))?;
        let rest = rest.strip_suffix("NotSatisfied").unwrap_or(rest);
        let rest = rest.strip_suffix("Limit").unwrap_or(rest);
        let (rest, per) = [
            ("PerJob", Per::Job),
            ("PerNode", Per::Node),
            ("PerUser", Per::User),
            ("PerAccount", Per::Account),
        ]
        .into_iter()
        .find_map(|(suffix, per)| Some((rest.strip_suffix(suffix)?, per)))
        .unwrap_or((rest, Per::Nothing));
        let (rest, measure) = if let Some(rest) = rest.strip_suffix("RunMinutes") {
            (rest, Measure::RunMinutes)
        } else if let Some(rest) = rest.strip_suffix("Minutes") {
            (rest, Measure::Minutes)
        } else {
            (rest, Measure::Amount)
        };
        let what = match rest.to_ascii_lowercase().as_str() {
            "cpu" | "cpus" => "CPUs",
            "mem" | "memory" => "memory",
            "node" | "nodes" => "nodes",
            "job" | "jobs" => "running jobs",
            "submitjob" | "submitjobs" => "submitted jobs",
            "wall" | "wallduration" => "run time",
            "gres" => "GPUs (GRES)",
            "license" => "licences",
            "bb" => "burst buffer",
            "billing" => "billing units",
            "energy" => "energy",
            "unknown" => "resources",
            _ => return None,
        };
        Some(Self {
            whose,
            bound,
            what,
            measure,
            per,
        })
    }

    fn words(self, job: &str) -> Explained {
        let Self {
            bound,
            what,
            measure,
            per,
            ..
        } = self;
        let whose = match self.whose {
            Whose::Association => "your account (association)",
            Whose::Qos => "its QOS",
        };
        let show = match self.whose {
            Whose::Association => "'sacctmgr show assoc where user=$USER' shows the limits",
            Whose::Qos => "'sacctmgr show qos' shows the limits",
        };
        let another = match self.whose {
            Whose::Association => "another account",
            Whose::Qos => "another qos",
        };
        match (bound, measure, per) {
            (Bound::Min, ..) => Explained::stuck(
                format!("it asks for less than {whose} demands in {what}"),
                format!("{show}; ask for more, or choose {another}, and submit again"),
            ),
            (_, Measure::RunMinutes, _) => Explained::waits(format!(
                "running jobs of {whose} may together still use no more minutes of {what}"
            ))
            .action(format!(
                "{show}; a shorter time limit fits earlier: scontrol update JobId={job} TimeLimit=<less>"
            )),
            (Bound::Group, Measure::Minutes, _) => Explained::waits(format!(
                "the budget of {whose} in minutes of {what} is used up"
            ))
            .action(format!("{show}; wait until use has decayed, ask for more, or choose {another}")),
            (Bound::Max, _, Per::Job | Per::Node) | (Bound::Max, Measure::Minutes, _) => {
                let scope = if per == Per::Node { "a node" } else { "a job" };
                let unit = if measure == Measure::Minutes { "minutes of " } else { "" };
                Explained::stuck(
                    format!("it asks for more {unit}{what} than {whose} allows {scope}"),
                    format!("{show}; ask for less, or choose {another}, and submit again"),
                )
            }
            (Bound::Max, _, Per::User) => Explained::waits(format!(
                "your jobs together use as much as {whose} allows a user in {what}"
            ))
            .action(format!("it starts when others of yours end; {show}")),
            (Bound::Max, _, Per::Account) => Explained::waits(format!(
                "the jobs of your account together use as much as {whose} allows an account in {what}"
            ))
            .action(format!("it starts when others of the account end; {show}")),
            // AssocMaxJobsLimit, AssocMaxSubmitJobLimit: of one user's association.
            (Bound::Max, _, Per::Nothing) => Explained::waits(format!(
                "your jobs together use as much as {whose} allows in {what}"
            ))
            .action(format!("it starts when others of yours end; {show}")),
            (Bound::Group, Measure::Amount, _) => Explained::waits(format!(
                "the jobs of {whose} together use as much as is allowed in {what}"
            ))
            .action(format!("it starts when others of them end; {show}")),
        }
    }
}
