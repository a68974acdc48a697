"""What a restore would mean, and what came of a recovery: in words, for a terminal."""

from foreman.care import rescue
from foreman.care import restore as restoring
from foreman.cli.terminal import Table, render, say

LOST_SHOWN = 20  # ids of lost jobs that are printed; with --json all


def what_it_means(plan: restoring.Plan) -> str:
    kept, present = plan.kept, plan.present
    at = f", {kept.at.astimezone():%Y-%m-%d %H:%M:%S}" if kept.at else ""
    lines = [f"{plan.copy}", f"  sound: {kept.jobs} jobs, last event {kept.seq}{at}"]
    if present is None:
        lines.append("  the database that is there now cannot be read")
    else:
        at = f", {present.at.astimezone():%Y-%m-%d %H:%M:%S}" if present.at else ""
        lines.append(f"  there now: {present.jobs} jobs, last event {present.seq}{at}")
    lines += [
        f"  lost with this: {plan.lost_events} events; jobs and results that came after the copy",
        f"  jobs that had not ended in the copy, {kept.live} of them, run again",
        "  webhooks delivered since then are delivered again, under the same ids",
        "  the next event has a number beyond all of these: followers are told to resync",
    ]
    return "\n".join(lines)


def tell(outcome: rescue.Outcome) -> None:
    account = outcome.account
    source = f"{outcome.backup.path}" if outcome.backup else "no backup was sound, or there is none"
    facts = [
        ("saved", f"{account.saved} jobs, as they last stood"),
        ("log rewritten", f"{account.retold} more: their events were damaged"),
        ("from the backup", f"{account.from_backup} jobs ({source})"),
        ("of these", f"{account.advanced} brought up to date by later events"),
        ("lost", f"{len(account.lost)} jobs"),
        ("without request", f"{account.without_request} jobs, which will fail as damaged"),
        ("without result", f"{account.without_result} jobs that were done"),
        ("webhooks lost", f"{account.messages_lost}"),
        ("quarantine", f"{outcome.quarantine}"),
    ]
    render(Table((), facts))
    for job in account.lost[:LOST_SHOWN]:
        say(f"lost: {job}")
