"""Send all hosts of a play what they lack of a snapshot's image, so that they can pass it on to each other."""

from __future__ import annotations

import functools
import inspect
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ansible.constants as C
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.executor.task_executor import TaskExecutor
from ansible.plugins.action import ActionBase
from ansible.template import Templar
from ansible.utils.display import Display

# Ansible finds a project's module_utils for modules, but not for plugins, which run in its own process.
sys.path.append(str(Path(__file__).parents[1] / "module_utils"))
from qsmr.errors import QsmrError  # noqa: E402
from qsmr.fleetaction import summary  # noqa: E402
from qsmr.hostimage import megabytes  # noqa: E402
from qsmr.hostmaker import order_to_make  # noqa: E402
from qsmr.libraries import check_libraries  # noqa: E402
from qsmr.progress import PushProgress  # noqa: E402
from qsmr.pushplan import plan  # noqa: E402
from qsmr.release import Releases  # noqa: E402
from qsmr.snapshot import Snapshot, read_snapshot  # noqa: E402
from qsmr.transport import Job, Start, agent_command, distribute, uses_relay  # noqa: E402

display = Display()


class ActionModule(ActionBase):
    """Runs once for all hosts."""

    BYPASS_HOST_LOOP = True
    _supports_check_mode = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        variables: dict[str, Any] = task_vars or {}
        _result, given = self.validate_argument_spec(
            {
                "snapshot": {"type": "path", "required": True},
                "probes": {"type": "dict", "required": True},
                "mode": {"type": "str", "choices": ["auto", "direct", "relay"], "default": "auto"},
                "bandwidth": {"type": "float", "default": 0},
                "hosts_at_once": {"type": "int", "default": 0},
                "disk_share": {"type": "float", "default": 0.9},
                "state_dir": {"type": "path", "required": True},
                "project": {"type": "str", "required": True},
            }
        )
        file = Path(given["state_dir"]) / given["project"] / "push.json"
        try:
            check_libraries()
            snapshot = read_snapshot(Path(given["snapshot"]))
            with PushProgress(file, given["project"]) as progress:
                hosts, mode = self._push(given, snapshot, progress, variables)
        except QsmrError as error:
            raise AnsibleActionFail(str(error)) from error
        sent = [host for host in hosts.values() if "from_control" in host]
        text = (
            f"Push of {snapshot.id} to {len(sent)} host{'s' * (len(sent) != 1)}: "
            f"{megabytes(sum(host['sent'] for host in sent))} arrived, "
            f"{megabytes(sum(host['from_control'] for host in sent))} left this machine ({mode})"
        )
        return {"changed": False, "hosts": hosts, "mode": mode, **(summary(text) if sent else {})}

    def _start(self, name: str, variables: dict[str, Any]) -> Start:
        try:
            return Session(self, name, variables).start()
        except AnsibleError as error:
            raise QsmrError(str(error)) from error

    def _push(
        self, given: Mapping[str, Any], snapshot: Snapshot, progress: PushProgress, variables: dict[str, Any]
    ) -> tuple[dict[str, Any], str]:
        plans = {
            name: plan(Path(given["snapshot"]), probe, given["disk_share"], given["bandwidth"])
            for name, probe in given["probes"].items()
        }
        project, probes = given["project"], given["probes"]
        jobs = {
            name: Job(
                made.blobs,
                str(Releases(Path(probes[name]["host_dir"]), project).incoming),
                functools.partial(self._start, name, variables),
                order_to_make(snapshot.manifest, project, probes[name]["host_dir"], made.order),
            )
            for name, made in plans.items()
            if made.blobs and not made.fault
        }
        relay = uses_relay(given["mode"], len(jobs))
        outcomes = distribute(
            jobs,
            relay=relay,
            bandwidth=given["bandwidth"] * 1e6 / 8,
            at_once=given["hosts_at_once"],
            report=progress.follow,
        )
        hosts: dict[str, Any] = {
            name: {"order": made.order, "sent": 0, "fault": made.fault} for name, made in plans.items()
        }
        for name, outcome in outcomes.items():
            for note in outcome.notes:
                display.warning(f"{name}: {note}")
            hosts[name] |= {
                "sent": outcome.sent + outcome.relayed - outcome.resent,
                "from_control": outcome.sent,
                "resent": outcome.resent,
                "resumed": outcome.resumed,
                "seconds": round(outcome.seconds, 1),
                "loaded": outcome.made,
                "fault": outcome.fault,
            }
        return hosts, "relay" if relay else "direct"


class Session:
    """How to reach one host: just as Ansible itself does for a task there."""

    def __init__(self, action: ActionModule, name: str, variables: dict[str, Any]) -> None:
        hostvars = variables["hostvars"]
        own = {**hostvars.raw_get(name), "hostvars": hostvars}
        templar = Templar(loader=action._loader, variables=own)
        context = action._play_context.copy()
        context.remote_addr = context.port = None
        for secret in ("password", "become_pass"):
            # Kept where it was asked for on the command line, for all hosts.
            if any(variable in variables for variable in C.MAGIC_VARIABLE_MAPPING[secret]):
                setattr(context, secret, None)
        context = context.set_task_and_variable_override(task=action._task, variables=own, templar=templar)
        context.post_validate(templar=templar)
        host = hostvars._inventory.get_host(name)
        context.remote_addr = context.remote_addr or host.address
        given = {
            "host": host,
            "task": action._task,
            "job_vars": own,
            "play_context": context,
            "loader": action._loader,
            "shared_loader_obj": action._shared_loader_obj,
            "final_q": None,
            "variable_manager": hostvars._variable_manager,
        }
        # ansible-core 2.21 knows by itself what the task is, and its variables.
        executor = TaskExecutor(**{word: given[word] for word in inspect.signature(TaskExecutor).parameters})
        # Since ansible-core 2.21 the task itself has the connection to the host that it runs for.
        kind = templar.template(own.get("ansible_connection") or action._task._parent.connection)
        connection = executor._connection = executor._get_connection(own, templar, kind)
        executor._set_connection_options(own, templar)
        self._connection = connection
        self._context = context
        python = str(templar.template(own.get("ansible_python_interpreter", "auto")))
        if python.startswith("auto"):
            python = (own.get("ansible_facts") or {}).get("discovered_interpreter_python", "python3")
        self._command = shlex.join(agent_command(python))

    def start(self) -> Start:
        connection, become = self._connection, self._connection.become
        command = self._command
        prompt = success = password = ""
        if become:
            if getattr(become, "require_tty", False):
                raise QsmrError(
                    f"an image cannot be sent with ansible_become_method {become.name}: "
                    "use sudo, or give qsmr_host_dir to the SSH user"
                )
            command = become.build_become_command(command, connection._shell)
            prompt, success = become.prompt or "", become.success
            password = become.get_option("become_pass", playcontext=self._context) or ""
        shell = ["/bin/sh", "-c", command]
        words = {"prompt": prompt.encode(), "success": success.encode(), "password": password}
        if connection.transport == "local":
            return Start(shell, **words)
        if connection.transport != "ssh":
            raise QsmrError(f"an image cannot be sent with ansible_connection {connection.transport}: use ssh")
        address = connection.get_option("host") or self._context.remote_addr
        argv = connection._build_command(connection.get_option("ssh_executable"), "ssh", address, shlex.join(shell))
        keywords = connection._init_shm()
        pipe = connection.sshpass_pipe
        if pipe:
            keywords["pass_fds"] = pipe

        def started() -> None:
            if pipe:
                os.close(pipe[0])
                os.write(pipe[1], f"{connection.get_option('password')}\n".encode())
                os.close(pipe[1])

        def ended() -> None:
            if connection.shm:
                connection.shm.unlink()
                connection.shm = None

        return Start(argv, keywords, **words, started=started, ended=ended)
