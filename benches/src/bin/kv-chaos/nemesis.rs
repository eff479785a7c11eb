//! What goes wrong, and when.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hyper::Method;
use raft_kv::client::Ask;

use super::clients::Clients;
use super::cluster::{Cluster, State};
use super::dice::Dice;
use super::disks::Left;
use super::proxy::Rule;
use super::{Mix, Options, tell};

/// How often each fault struck.
pub(crate) type Faults = BTreeMap<&'static str, u64>;

/// What only takes a fault back, or came to nothing.
const HARMLESS: [&str; 6] = ["start", "continue", "mend", "free a disk", "no removal", "nothing"];

/// How many of them did harm.
pub(crate) fn effective(faults: &Faults) -> u64 {
    let harmful = faults.iter().filter(|(fault, _)| !HARMLESS.contains(fault));
    harmful.map(|(_, count)| count).sum()
}

/// How often something may happen.
const PACE_MS: u64 = 700;

/// How often a line tells how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

/// Strikes until the time is over, or until something happens that nobody asked for.
pub(crate) async fn strike(
    cluster: &mut Cluster,
    options: &Options,
    end: Instant,
    clients: &Clients,
    faults: &mut Faults,
) -> Result<(), String> {
    let mut dice = Dice::new(options.seed, 0);
    let mut told = Instant::now();
    while Instant::now() < end {
        let pause = Duration::from_millis(PACE_MS / 2 + dice.below(PACE_MS));
        tokio::time::sleep(pause).await;
        for fault in cluster.departed()? {
            *faults.entry(fault).or_default() += 1;
        }
        if options.mix != Mix::Healthy {
            let fault = act(cluster, &mut dice).await?;
            *faults.entry(fault).or_default() += 1;
        }
        if told.elapsed() > PROGRESS {
            told = Instant::now();
            let left = end.saturating_duration_since(told).as_secs();
            let struck: u64 = faults.values().sum();
            tell(&format!("{} operations, {struck} faults, {left} s left", clients.count()));
        }
    }
    Ok(())
}

async fn act(cluster: &mut Cluster, dice: &mut Dice) -> Result<&'static str, String> {
    let ids = cluster.ids();
    let is_disturbed = |id: &&u64| cluster.state(**id) != State::Running || cluster.is_full(**id);
    let disturbed = ids.iter().filter(is_disturbed).count();
    let id = ids[usize::try_from(dice.below(ids.len() as u64)).unwrap_or(0)];
    match cluster.state(id) {
        State::Down => {
            let has_rotted = dice.percent(50) && cluster.flip(id, dice).await?;
            cluster.run(id)?;
            return Ok(if has_rotted { "flip a bit" } else { "start" });
        }
        State::Paused => {
            cluster.go_on(id)?;
            return Ok("continue");
        }
        State::Running => {}
    }
    // A minority at a time most of the time; all at once now and then.
    let may_disturb = disturbed < ids.len() / 2 || dice.percent(5);
    if cluster.is_full(id) && dice.percent(50) {
        cluster.free(id)?;
        return Ok("free a disk");
    }
    if cluster.has_small_disks() && may_disturb && dice.percent(15) {
        return fill(cluster, id, dice).await;
    }
    match dice.below(100) {
        0..20 if may_disturb => {
            cluster.kill(id).await?;
            Ok("kill -9")
        }
        20..35 if may_disturb => {
            cluster.pause(id)?;
            Ok("stop")
        }
        0..45 => {
            isolate(cluster, &ids, id, dice, Rule::Cut);
            Ok("cut")
        }
        45..55 => {
            isolate(cluster, &ids, id, dice, Rule::Swallow);
            Ok("swallow")
        }
        55..70 => {
            let by = Rule::Late(Duration::from_millis(5 + dice.below(200)));
            for other in ids.iter().filter(|other| **other != id) {
                cluster.rules.set(*other, id, by);
            }
            Ok("delay")
        }
        70..85 => {
            cluster.rules.clear();
            Ok("mend")
        }
        85..90 => {
            let ask = Ask::new(Method::POST, "/cluster/transfer-leader").body("{}");
            // Whether it comes about is not the question here.
            drop(cluster.ask(&ask, Duration::from_secs(2)).await);
            Ok("transfer")
        }
        _ => {
            cluster.calm()?;
            if dice.percent(50) {
                cluster.rules.clear();
            }
            // A disk that is lost, beside one that has lost something, may be one too many.
            if cluster.is_unhurt().await { replace(cluster, id).await } else { Ok("nothing") }
        }
    }
}

/// A disk fills up: often the leader's, who is to hand over as long as there is a little left.
async fn fill(cluster: &mut Cluster, id: u64, dice: &mut Dice) -> Result<&'static str, String> {
    let leader = if dice.percent(60) { cluster.leader().await } else { None };
    let id = leader.unwrap_or(id);
    if dice.percent(50) {
        cluster.fill(id, Left::Little)?;
        return Ok("nearly full");
    }
    cluster.fill(id, Left::Nothing)?;
    Ok("full disk")
}

/// Sets a server apart from all others, both ways or one.
fn isolate(cluster: &Cluster, ids: &[u64], id: u64, dice: &mut Dice, rule: Rule) {
    let way = dice.below(3);
    for other in ids.iter().filter(|other| **other != id) {
        if way != 0 {
            cluster.rules.set(id, *other, rule);
        }
        if way != 1 {
            cluster.rules.set(*other, id, rule);
        }
    }
}

/// A member leaves, loses its disk, and comes back as somebody new.
async fn replace(cluster: &mut Cluster, id: u64) -> Result<&'static str, String> {
    let ask = Ask::new(Method::DELETE, format!("/cluster/members/{id}"));
    match cluster.ask(&ask, Duration::from_secs(3)).await {
        Ok(answer) if answer.status.is_success() => {}
        // It may be at risk, or not a member at present.
        Ok(_) | Err(_) => return Ok("no removal"),
    }
    cluster.kill(id).await?;
    cluster.wipe(id)?;
    cluster.run(id)?;
    for _ in 0..20 {
        if cluster.add(id).await.is_ok_and(|answer| answer.status.is_success()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok("replace")
}
