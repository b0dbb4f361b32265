"""The verbs and their order in `sovctl --help`."""

from __future__ import annotations

from typing import Annotated

import typer

from sovctl.cli import (
    access_verbs,
    agreement_verbs,
    dataset_verbs,
    download_verb,
    evidence_verbs,
    exec_verb,
    export_verbs,
    fleet_verbs,
    identity_verbs,
    job_verbs,
    login_verb,
    operate_verbs,
    policy_verbs,
    port_forward_verb,
    quota_verbs,
    secret_verbs,
    submit_verb,
    what_if_verbs,
    window_verbs,
)
from sovctl.cli.output import Format
from sovctl.cli.session import session_of

HELP_COLUMNS = 80
"""Whatever the terminal: the README shows this text."""

_SETTINGS = {"help_option_names": ["-h", "--help"], "terminal_width": HELP_COLUMNS}


def _group(help_text: str) -> typer.Typer:
    return typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode=None)


def _root(
    ctx: typer.Context,
    context: Annotated[
        str, typer.Option("--context", metavar="NAME", help="Which control plane, and as whom.")
    ] = "",
    output: Annotated[
        Format, typer.Option("--output", "-o", help="Form of the answer.")
    ] = Format.TABLE,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Answers only, no remarks.")] = False,
) -> None:
    """Run jobs on the compute exchanges of one country, under its own law.

    Options of this page are taken anywhere before `--`. Exit status: 0 done, 1 the
    job failed, 2 usage, 3 refused by policy, quota or admission, 4 not found, 5 not
    permitted, 6 control plane unreachable, 130 interrupted.
    """
    session = session_of(ctx)
    session.context_name = context
    session.output.format = output
    session.output.color = not no_color
    session.output.quiet = quiet


def build() -> typer.Typer:
    """The program, in the order in which its help lists the verbs."""
    app = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=_SETTINGS,
    )
    app.callback()(_root)
    _add_jobs(app)
    app.command("certificate")(evidence_verbs.certificate_of)
    app.command("verify")(evidence_verbs.verify_files)
    app.command("usage")(quota_verbs.show_usage)
    app.command("sites")(operate_verbs.list_sites)
    app.command("nodes")(operate_verbs.list_nodes)
    app.command("top")(fleet_verbs.top)
    app.command("cordon")(operate_verbs.cordon)
    app.command("uncordon")(operate_verbs.uncordon)
    app.command("drain")(operate_verbs.drain)
    app.command("fence")(operate_verbs.fence)
    _add_windows(app)
    fleet = typer.Typer(rich_markup_mode=None, invoke_without_command=True)
    fleet.callback()(fleet_verbs.fleet_summary)
    fleet.command("apply")(operate_verbs.apply_fleet)
    fleet.command("verdicts")(fleet_verbs.fleet_verdicts)
    fleet.command("what-if")(what_if_verbs.fleet_what_if)
    fleet.command("dependencies")(fleet_verbs.fleet_dependencies)
    tenants = _group("Declare tenants and their quotas.")
    tenants.command("apply")(operate_verbs.apply_tenants)
    datasets = _group("Say which data lies where, and what its label demands of work.")
    datasets.command("apply")(dataset_verbs.apply_datasets)
    datasets.command("list")(dataset_verbs.list_datasets)
    datasets.command("show")(dataset_verbs.show_dataset)
    datasets.command("remove")(dataset_verbs.remove_dataset)
    token = _group("Let somebody join.")
    token.command("create")(identity_verbs.create_token)
    contexts = _group("Choose a control plane and an identity.")
    contexts.command("list")(identity_verbs.list_contexts)
    contexts.command("use")(identity_verbs.use_context)
    schema = _group("Print the schemas of files.")
    schema.command("job")(identity_verbs.schema_job)
    for name, group in (
        ("datasets", datasets),
        ("quota", _quota()),
        ("fleet", fleet),
        ("tenants", tenants),
        ("policy", _policy()),
        ("agreements", _agreements()),
        ("audit", _audit()),
        ("certificates", _certificates()),
        ("access", _access()),
        ("export", _export()),
        ("secrets", _secrets()),
        ("keys", _keys()),
    ):
        app.add_typer(group, name=name)
    app.command("whoami")(identity_verbs.whoami)
    app.command("join")(identity_verbs.join)
    app.command("login")(login_verb.login)
    for name, group in (("token", token), ("context", contexts), ("schema", schema)):
        app.add_typer(group, name=name)
    return app


def _add_jobs(app: typer.Typer) -> None:
    """What is done with jobs."""
    app.command("submit")(submit_verb.submit_job)
    app.command("list")(job_verbs.list_jobs)
    app.command("get")(job_verbs.get_job)
    app.command("watch")(job_verbs.watch_jobs)
    app.command("logs")(job_verbs.logs_of)
    app.command("exec")(exec_verb.exec_command)
    app.command("port-forward")(port_forward_verb.forward_port)
    app.command("download")(download_verb.download_files)
    app.command("cancel")(job_verbs.cancel_jobs)
    app.command("scale")(job_verbs.scale_service)
    app.command("explain")(job_verbs.explain_job)


def _agreements() -> typer.Typer:
    agreements = _group("Open other countries to some work, by signed agreement.")
    agreements.command("list")(agreement_verbs.list_agreements)
    agreements.command("show")(agreement_verbs.show_agreement)
    agreements.command("apply")(agreement_verbs.apply_agreement)
    agreements.command("revoke")(agreement_verbs.revoke_agreement)
    agreements.command("ledger")(agreement_verbs.agreement_ledger_of)
    agreements.command("countersign")(agreement_verbs.countersign_ledger)
    agreements.command("sign")(agreement_verbs.sign_agreement)
    return agreements


def _policy() -> typer.Typer:
    policy = _group("Set what work may ask for at most.")
    policy.command("show")(policy_verbs.show_policy)
    policy.command("apply")(policy_verbs.apply_policy)
    policy.command("prove")(policy_verbs.prove_policy)
    policy.command("diff")(policy_verbs.diff_policy)
    policy.command("sign")(policy_verbs.sign_policy)
    return policy


def _add_windows(app: typer.Typer) -> None:
    maintenance = _group("Let nothing run on a site or nodes for a time.")
    maintenance.command("add")(window_verbs.add_maintenance)
    maintenance.command("list")(window_verbs.list_maintenance)
    maintenance.command("remove")(window_verbs.remove_window)
    reservation = _group("Keep a site or nodes for one tenant for a time.")
    reservation.command("add")(window_verbs.add_reservation)
    reservation.command("list")(window_verbs.list_reservations)
    reservation.command("remove")(window_verbs.remove_window)
    app.add_typer(maintenance, name="maintenance")
    app.add_typer(reservation, name="reservation")


def _audit() -> typer.Typer:
    audit = _group("Read the log of every decision, check it, and be its witness.")
    audit.command("log")(operate_verbs.audit_log)
    audit.command("checkpoint")(evidence_verbs.audit_checkpoint)
    audit.command("verify")(evidence_verbs.audit_verify)
    audit.command("witness")(evidence_verbs.audit_witness)
    audit.command("trust")(evidence_verbs.audit_trust)
    return audit


def _export() -> typer.Typer:
    export = _group("Hand others what this system can show.")
    export.command("self-assessment")(export_verbs.export_self_assessment)
    return export


def _secrets() -> typer.Typer:
    secrets = _group("Keep what jobs need and nobody else may know.")
    secrets.command("set")(secret_verbs.set_secret)
    secrets.command("list")(secret_verbs.list_secrets)
    secrets.command("remove")(secret_verbs.remove_secret)
    return secrets


def _keys() -> typer.Typer:
    keys = _group("Make a key of our own, for secrets and bundles.")
    keys.command("create")(secret_verbs.create_keys)
    return keys


def _access() -> typer.Typer:
    access = _group("See which operators touch your data, and let them.")
    access.command("list")(access_verbs.list_access)
    access.command("show")(access_verbs.show_access)
    access.command("log")(access_verbs.access_log)
    access.command("request")(access_verbs.request_access)
    access.command("approve")(access_verbs.approve_access)
    access.command("revoke")(access_verbs.revoke_access)
    access.command("policy")(access_verbs.show_policy)
    access.command("set-policy")(access_verbs.set_policy)
    return access


def _certificates() -> typer.Typer:
    certificates = _group("Look for certificates that are withheld.")
    certificates.command("list")(evidence_verbs.list_certificates)
    return certificates


def _quota() -> typer.Typer:
    quota = typer.Typer(
        help="Show guarantee, limit and use of GPUs, and budgets.",
        cls=quota_verbs.QuotaGroup,
        rich_markup_mode=None,
    )
    quota.command(quota_verbs.SHOW)(quota_verbs.show_quota)
    quota.command("budgets")(quota_verbs.show_budgets)
    quota.command("what-if")(what_if_verbs.quota_what_if)
    return quota
