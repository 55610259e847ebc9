//! Documents with faults: all of them are said, each with its line and what to write.

use crate::sound::WHOLE;
use lifeboat_runbook::compile;

/// What is replaced by what in a sound runbook, and a part of what is then said.
const FAULTS: &[(&str, &str, &str)] = &[
    // Lines
    ("needs=gone,", "needs=gone,\r", "a carriage return stands without a line feed"),
    // Names
    ("step=gone ", "step=Gone ", "is no name of a step"),
    ("step=gone ", "step=none ", "is no name of a step"),
    ("step=lag ", "step=fence ", "there is a step `fence` already, at line 37"),
    ("needs=gone,", "needs=gon,", "no step is called `gon`. Did you mean `gone`?"),
    ("needs=gone,", "needs=gone,gone,", "stands in the list twice"),
    ("needs=gone,", "needs=fence,", "names itself"),
    ("needs=gone,", "needs=unfence,", "only undoes another step"),
    ("needs=gone,", "needs=is-fenced,", "only says whether"),
    // The graph
    ("needs=none by", "needs=promote by", "none of them can be the first"),
    ("{step=unfence ", "{step=unfence needs=gone ", "it has no `needs`"),
    ("{step=unfence ", "{step=unfence approve=a ", "it has no `approve`"),
    ("{step=is-fenced ", "{step=is-fenced phase=detect ", "it has no `phase`"),
    ("undo=unfence", "undo=is-fenced", "is a check, and changes nothing"),
    ("probe=is-fenced", "probe=restore", "is no check block"),
    ("undo=none why=\"a promoted server begins a timeline\"", "undo=unfence", "undoes `fence` already"),
    // Attributes
    ("outputs=token", "output=token", "there is no attribute `output`. Did you mean `outputs`?"),
    ("timeout=30s", "timeout=30s undo=unfence", "a check has no `undo`"),
    ("timeout=15m", "timeout=15m retries=2", "a person's step has no `retries`"),
    ("timeout=30s", "timeout=30s timeout=40s", "`timeout` stands there twice"),
    ("timeout=30s", "timeout=30", "is no length of time"),
    ("timeout=30s", "timeout=0s", "no time at all"),
    ("retries=3 ", "", "`retry_every` says something only beside `retries`"),
    ("retries=3", "retries=0", "is no number of tries"),
    ("repeat=check probe", "retries=2 probe", "may not be repeated is not tried again"),
    (" probe=is-fenced", "", "needs a check that says"),
    ("repeat=check probe", "repeat=safe probe", "`probe` says something only beside `repeat=check`"),
    ("repeat=check probe", "repeat=chck probe", "did you mean check?"),
    ("phase=detect", "phase=detct", "did you mean detect?"),
    ("undo=none why", "why", "`why` says something only beside `undo=none`"),
    ("approve=\"2 of incident commander\" ", "", "says something only beside `approve`"),
    ("\"2 of", "\"two of", "is no number of people"),
    ("facts=target", "facts=targt", "there is no input `targt`. Did you mean `target`?"),
    ("facts=target,", "facts=target,target,", "agreed to twice"),
    ("lag.seconds <= 5,", "lag.seconds is 5,", "is no bound"),
    ("lag.seconds <= 5,", "target <= 5,", "no number, length of time or size"),
    ("restore.point", "restore.pint", "leaves nothing that is called `pint`. Did you mean `point`?"),
    ("fence.token", "is-fenced.token", "leaves nothing"),
    ("pass=host,fence.token", "pass=host,token=lag.seconds", "nothing says that `lag` comes before `fence`"),
    // What is in the blocks
    ("pass=lag.seconds expires", "expires", "there is no input `seconds`"),
    ("pass=database,who=host", "pass=database", "`who` is used here, and not passed"),
    ("pass=database,who=host", "pass=database,wo=host", "not passed. Did you mean `wo`?"),
    (":'who'", ":who", "`:who` is not filled in"),
    ("sql {step=lag on=${database}", "sql {step=lag", "SQL needs a database"),
    ("{step=restore ", "{step=restore on=x ", "`on` names the database"),
    ("outputs=point=/restored/point", "outputs=point", "needs the place in the answer"),
    ("outputs=token", "outputs=token=/a", "has a pointer"),
    ("outputs=status,", "outputs=code,", "or it is `status`"),
    ("--into /srv/users", "--into $HOME", "no environment is read"),
    ("--into /srv/users", "--into /srv/users | cat", "no shell reads"),
    ("outputs=point=/restored/point", "expect=1", "has no `expect`"),
    ("/readyz", "/${readyz", "a ${ is not closed"),
    ("GET https", "GEThttps", "a request begins with"),
    ("Accept:", "Accept", "is no header"),
    ("```http", "```htp", "is no language that can be carried out. Did you mean `http`?"),
    ("by=sql", "by=psql", "not by \"psql\". Did you mean `sql`?"),
    ("pg_ctl promote -D /srv/users\n", "", "the block is empty"),
    ("expect=\">= 1\"", "expect=\">= many\"", "neither more nor less"),
    // Front matter
    ("owner:", "ownr:", "has no key `ownr`. Did you mean `owner`?"),
    ("owner: data platform", "owner:", "`owner` says nothing"),
    ("owner: data platform", "owner: [a]", "is one value, not a list"),
    ("rto: 1h", "rto: 1", "is no length of time"),
    ("rto: 1h", "rtoo: 1h", "Did you mean `rto`?"),
    ("2026-11-01", "1.11.2026", "is no day"),
    ("type: time", "type: instant", "is no type of an input"),
    ("type: choice, ", "", "has choices, and is none"),
    ("choices: [db-1, db-2], ", "", "`choices` names none"),
    ("default: db-1", "default: db-3", "it is one of db-1, db-2"),
    ("\"env:DATABASE_URL\"", "postgres://u:hunter2@db", "a secret is named, never given here"),
    ("{ type: choice,", "{ description: a, b and c, type: choice,", "stands in quotation marks"),
    ("  target:\n", "  Target:\n", "is no name of an input"),
    ("severity: SEV-1", "severity: SEV-1\nseverity: SEV-2", "is no YAML"),
    ("---\nowner", "--\nowner", "there is no input"),
    // The document
    ("GET https://localhost:8443/readyz\nAccept: application/json\n```\n", "", "does not end"),
    ("- [ ] Writers", "- [] Writers", "looks like one of a checklist"),
];

fn said(text: &str) -> Vec<String> {
    let Err(faults) = compile(text) else { return Vec::new() };
    let hint = |hint: &Option<String>| hint.as_ref().map(|hint| format!(". {hint}")).unwrap_or_default();
    faults.iter().map(|fault| format!("{fault}{}", hint(&fault.hint))).collect()
}

#[test]
fn each_fault_is_said() {
    let mut wrong = Vec::new();
    for (from, to, part) in FAULTS {
        assert_eq!(WHOLE.matches(from).count(), 1, "{from:?} is there once");
        let said = said(&WHOLE.replace(from, to));
        if !said.iter().any(|fault| fault.contains(part)) {
            wrong.push(format!("{from:?} by {to:?}: not {part:?} but {said:?}"));
        }
        assert!(!said.iter().any(|fault| fault.contains("hunter2")), "a secret is repeated: {said:?}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_of_them_are_said_at_once_with_their_lines() {
    let text = "---\nownr: x\nobjectives: { rto: soon }\n---\n# T\n\n```bash {step=a needs=b tiemout=3s}\nx\n```\n\n\
                ```sql {step=c}\nselect :'x'\n```\n- [ ] d {step=a}\n";
    let lines: Vec<String> =
        said(text).iter().map(|fault| fault.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(lines, ["line 2", "line 3", "line 7", "line 7", "line 11", "line 14"], "{:#?}", said(text));
}

#[test]
fn cycles_are_named_and_one_is_said_once() {
    let step = |name: &str, needs: &str| format!("```bash {{step={name} needs={needs}}}\nx\n```\n");
    let two =
        [step("a", "b"), step("b", "c"), step("c", "a"), step("d", "a"), step("e", "f"), step("f", "e")];
    let said = said(&format!("# T\n{}", two.concat()));
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said[0].contains("`a` needs `b`, which needs `c`, which needs `a`"), "{said:#?}");
    assert!(said[1].contains("`e` needs `f`, which needs `e`"), "{said:#?}");
}

#[test]
fn what_needs_too_much_does_not_come_back_late_or_never() {
    let step = |n: usize| format!("```bash {{step=s{n} needs=s{}}}\nx\n```\n", (n + 1) % 10_000);
    let said = said(&format!("# T\n{}", (0..10_000).map(step).collect::<String>()));
    assert_eq!(said.len(), 1);
    assert!(said[0].len() < 1000 && said[0].contains("9991 more"), "{said:?}");
}

#[test]
fn nothing_is_no_runbook() {
    for text in ["", "\u{feff}", "---\n---\n", "# T\n", "text", "---", "```bash {step=a}\nx\n```\n"] {
        assert!(!said(text).is_empty(), "{text:?}");
    }
}
