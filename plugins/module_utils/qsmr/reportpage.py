"""The page that a project's report is: the template that qsmr.report fills in."""

from __future__ import annotations

TEMPLATE = """\
{% extends "page.html" %}
{% import "parts.html" as parts %}
{% macro shown(names) %}
<div class="figures">
{% for name in names if name in figures %}
{{ parts.figure(figures[name], figures_folder) }}
{% endfor %}
</div>
{% endmacro %}
{% block head %}
<meta name="made-of" content="{{ made_of }}">
{% endblock %}
{% block header %}
<p class="muted">{{ state }}. Job service {{ root }}, {{ now }}.</p>
<nav aria-label="Parts of the report"><ul>
<li><a href="#progress">Progress</a></li>
<li><a href="#fleet">Hosts and workers</a></li>
<li><a href="#failures">Failures</a></li>
<li><a href="#scans">Scans</a></li>
<li><a href="#profiles">Profiles</a></li>
<li><a href="#provenance">Provenance</a></li>
</ul></nav>
{% endblock %}
{% block content %}
{{ parts.facts(facts) }}
{% if attention %}
<section aria-labelledby="attention">
<h2 id="attention">Attention</h2>
<ul class="note {{ "bad" if failing else "warn" }}">
{% for line in attention %}
<li>{{ line }}</li>
{% endfor %}
</ul>
</section>
{% endif %}
<section aria-labelledby="progress">
<h2 id="progress">Progress</h2>
{% if "progress" in figures %}
{{ shown(["progress", "rate", "processing_time"]) }}
{% else %}
<p>No job has ended yet.</p>
{% endif %}
</section>
<section aria-labelledby="fleet">
<h2 id="fleet">Hosts and workers</h2>
{% for share in bad_hosts %}
<p class="note bad"><strong>{{ share.host }} stands out:</strong> {{ share.failed | number }} of the
{{ share.ended | number }} jobs that ended there failed ({{ "%.1f" | format(100 * share.share) }} %), more than on the
others (Fisher's exact test, one-sided: <span class="together">{{ chance(share.p) }}</span>).</p>
{% endfor %}
{% if hosts %}
{{ shown(["hosts", "workers"]) }}
{{ parts.table("Jobs by host; p: how likely so many failures are by chance (Fisher's exact test against the others)",
  ["host", "release", "workers", "finished", "failed", "running", "failed / %", "p", "median time / s"], hosts) }}
{% if workers %}
<details>
<summary>{{ workers_total | number }} worker{{ "" if workers_total == 1 else "s" }}
{%- if workers_total > workers | length %}, of them the {{ workers | length }} with most jobs{% endif %}
</summary>
{{ parts.table("Jobs by worker",
  ["worker", "host", "finished", "failed", "running", "median time / s"], workers) }}
</details>
{% endif %}
{% else %}
<p>No worker has claimed a job yet.</p>
{% endif %}
</section>
<section aria-labelledby="failures">
<h2 id="failures">Failures</h2>
{% if not failed %}
<p class="note good">No job has failed.</p>
{% else %}
<p>{{ failed | number }} {{ "job has" if failed == 1 else "jobs have" }} failed
{%- if analysed < failed %}; the newest {{ analysed | number }} of them are looked at
{%- endif %}. They are grouped by the line of their output that tells why; numbers, ids, times and paths do not count.
{% if causes_total > causes | length %} The {{ causes | length }} most frequent of {{ causes_total }} causes are shown.
{% endif %}</p>
{% for cause in causes %}
<h3>{{ cause.count | number }} {{ "job" if cause.count == 1 else "jobs" }}: {{ cause.template }}</h3>
<pre>{{ cause.example }}</pre>
<p class="muted">On
{% for host, count in cause.hosts.most_common(10) %}
{{ host }} ({{ count | number }}){% if not loop.last %}, {% endif %}
{% endfor %}
{% if cause.hosts | length > 10 %}, …{% endif %}
</p>
<details{% if cause.count <= 5 %} open{% endif %}>
<summary>Scans, with links to their output</summary>
<p>
{% for job in cause.jobs %}
<a href="{{ root }}/v4/{{ project }}/jobs/{{ job | urlencode }}/output">{{ job }}</a>{% if not loop.last %}, {% endif %}
{% endfor %}
</p>
</details>
{% endfor %}
{% endif %}
</section>
<section aria-labelledby="scans">
<h2 id="scans">Scans</h2>
{{ shown(["world", "coverage"]) }}
{% if "world" not in figures %}
<p>{{ no_level2 }}</p>
{% endif %}
{% if gaps %}
{{ parts.table("Finished scans without a profile", ["what is there", "reason", "scans", "which"], gaps) }}
{% endif %}
</section>
<section aria-labelledby="profiles">
<h2 id="profiles">Profiles</h2>
{% if profiles %}
<div class="figures">
{% for one in profiles %}
{{ parts.figure(figures["profiles_" ~ loop.index], figures_folder) }}
{% if "bands_" ~ loop.index in figures %}
{{ parts.figure(figures["bands_" ~ loop.index], figures_folder) }}
{% endif %}
{% endfor %}
</div>
{% else %}
<p>{{ no_level2 }}</p>
{% endif %}
</section>
<section aria-labelledby="provenance">
<h2 id="provenance">Provenance</h2>
{% if snapshots %}
{{ parts.table("Snapshots that made the level 2 here, or that the hosts have",
  ["snapshot", "scans", "git commit", "settings", "code", "made", "base image"], snapshots) }}
{% for line in told %}
<p class="muted">{{ line }}</p>
{% endfor %}
{% else %}
<p>No snapshot is known: no level 2 is on disk, and no host tells its release.</p>
{% endif %}
</section>
{% endblock %}
"""
