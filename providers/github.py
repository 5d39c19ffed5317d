"""GitHub."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from providers.answers import Answer, Complaint, Dialect, Meaning, Talk, conversation, reachable, three
from providers.base import ProbeOutcome, Provider, StatusPage, Variable
from providers.details import dig
from wsmon.http import Response
from wsmon.vocabulary import JSON


class FunctionalityOptions(BaseModel):
    """With ``repo`` it is read; with ``hook_id`` its webhook's latest deliveries too."""

    model_config = ConfigDict(extra="forbid")

    repo: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$", max_length=150)
    hook_id: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _hook_has_a_repo(self) -> FunctionalityOptions:
        if self.hook_id and not self.repo:
            raise ValueError("hook_id needs repo")
        return self


def _complaint(data: JSON) -> Complaint | None:
    message = dig(data, "message")
    return Complaint("", message) if isinstance(message, str) else None


# https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
# ("403 or 429", with x-ratelimit-remaining 0 or, for secondary limits, retry-after)
def _limited(response: Response, complaint: Complaint | None) -> Meaning | None:
    if response.status != 403 or complaint is None:
        return None
    spent = response.headers.get("x-ratelimit-remaining") == "0"
    return Meaning.LIMITED if spent or "retry-after" in response.headers else None


GITHUB = Dialect(
    vendor="GitHub",
    complaint=_complaint,
    variables=(Variable("GITHUB_TOKEN", "a personal, fine-grained or installation token"),),
    bases={"GITHUB_API_BASE": "https://api.github.com"},
    special=_limited,
    headers={
        "x-ratelimit-limit": "rate_limit_limit",
        "x-ratelimit-remaining": "rate_limit_remaining",
        "x-ratelimit-reset": "rate_limit_reset",
        "x-github-request-id": "request_id",
        "x-oauth-scopes": "scopes",
    },
)


def _get(talk: Talk, path: str) -> Answer:
    return talk.ask("GET", talk.base("GITHUB_API_BASE") + path, headers=_token(talk))


def _token(talk: Talk) -> dict[str, str]:
    (token,) = talk.need("GITHUB_TOKEN")
    return {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"}


@conversation(GITHUB)
def connectivity(talk: Talk) -> ProbeOutcome:
    """The rate limit without a token, which is free of charge against it."""
    return reachable(talk, "GET", f"{talk.base('GITHUB_API_BASE')}/rate_limit")


# https://docs.github.com/rest/rate-limit/rate-limit (open to every kind of token)
@conversation(GITHUB)
def authentication(talk: Talk) -> ProbeOutcome:
    """The rate limit with the token, and whose it is where the token may say so."""
    answer = _get(talk, "/rate_limit")
    talk.must(isinstance(answer.get("resources", "core"), dict), "its rate limits")
    user = talk.try_ask("user", "GET", f"{talk.base('GITHUB_API_BASE')}/user", headers=_token(talk))
    return talk.healthy(
        "the token works",
        login=user.get("login") if user else None,
        rate_limit_limit=answer.get("resources", "core", "limit"),
        rate_limit_remaining=answer.get("resources", "core", "remaining"),
    )


# https://docs.github.com/rest/repos/repos#get-a-repository
@conversation(GITHUB)
def functionality(talk: Talk) -> ProbeOutcome:
    """The repository (or the first one the token sees), and its webhook's deliveries."""
    options = talk.options if isinstance(talk.options, FunctionalityOptions) else FunctionalityOptions()
    if not options.repo:
        answer = _get(talk, "/user/repos?per_page=1")
        talk.must(isinstance(answer.data, list), "a list of repositories")
        return talk.healthy("repositories can be read")
    repo = _get(talk, f"/repos/{options.repo}")
    talk.must(repo.text("full_name") is not None, "the repository's name")
    if options.hook_id:
        _deliveries(talk, options.repo, options.hook_id)
    return talk.healthy(
        f"{options.repo} can be read",
        visibility=repo.get("visibility"),
        archived=repo.get("archived"),
        pushed_at=repo.get("pushed_at"),
    )


# https://docs.github.com/rest/repos/webhooks#list-deliveries-for-a-repository-webhook
def _deliveries(talk: Talk, repo: str, hook: int) -> None:
    url = f"{talk.base('GITHUB_API_BASE')}/repos/{repo}/hooks/{hook}/deliveries?per_page=30"
    answer = talk.try_ask("webhook deliveries", "GET", url, headers=_token(talk))
    if answer is None:
        return
    codes = [row.get("status_code") for row in answer.rows()]
    failed = sum(not (isinstance(code, int) and 200 <= code < 300) for code in codes)
    talk.details |= {"webhook_deliveries": len(codes), "webhook_deliveries_failed": failed}
    if failed:
        talk.warn(f"{failed} of the last {len(codes)} webhook deliveries failed")


PROVIDER = Provider(
    slug="github",
    label="GitHub",
    kinds=three(
        connectivity=connectivity,
        authentication=authentication,
        functionality=functionality,
        needs=("GITHUB_TOKEN",),
        options=FunctionalityOptions,
    ),
    variables=GITHUB.variables,
    base_urls=GITHUB.bases,
    status_page=StatusPage(
        "https://www.githubstatus.com/api/v2/summary.json", components=("API Requests", "Webhooks")
    ),
    docs_url="https://docs.github.com/rest",
)
