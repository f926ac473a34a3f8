"""Batches from beginning to end, with answers that a test decides: expiry, a full disk, cancellation, restarts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from openai.types import Batch as Described

from infrs.api.common.errors import FileMissingError, StorageFullError, TooManyBatchesError
from infrs.batches import batch_record as batch_module
from infrs.batches.batch_record import Batch
from infrs.batches.lines import BatchRequest
from infrs.batches.pace import Pace, Row
from infrs.batches.quota import Quota
from infrs.batches.service import Batches
from infrs.config.settings import ServerSettings
from infrs.errors import ConfigError, RequestError

URL = "/v1/completions"


class Answers:
    """Answers requests, at most `most` of them; the others wait until they are cancelled. asked: in order."""

    def __init__(self, most: int = 1000, status: int = 200, size: int = 10) -> None:
        self.asked: list[str] = []
        self._most, self._status, self._size = most, status, size

    async def __call__(self, request: BatchRequest, row: Row) -> tuple[int, str, bytes]:
        self.asked.append(request.custom_id)
        if len(self.asked) > self._most:
            await asyncio.Event().wait()
        return self._status, "id", orjson.dumps("x" * self._size)


def batches(folder: Path, answer: Answers, **settings: Any) -> Batches:
    return Batches(ServerSettings(files_dir=str(folder), **settings), Pace(4, lambda row, uncounted: True), answer)


def store(service: Batches, *names: str, tenant: str = "", kept: int | None = None) -> str:
    content = b"".join(orjson.dumps({"custom_id": name, "url": URL, "body": {}}) + b"\n" for name in names)
    with service.files.upload(tenant) as upload:
        upload.write(content)
        return upload.finish("in.jsonl", "batch", kept).id


async def begin(service: Batches, *names: str, seconds: int = 3600, tenant: str = "") -> Batch:
    file = store(service, *names, tenant=tenant)
    return await service.create(
        tenant, input_file_id=file, endpoint=URL, completion_window="1h", seconds=seconds, metadata=None
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  # a condition of the disk, too
            await asyncio.sleep(0.01)


async def ended(service: Batches, batch: Batch) -> Batch:
    await until(lambda: service.store.get(batch.tenant, batch.id).has_ended)
    return service.store.get(batch.tenant, batch.id)


def lines(service: Batches, file_id: str | None) -> list[dict[str, Any]]:
    return [] if file_id is None else [orjson.loads(line) for line in service.files.folder.data(file_id).open("rb")]


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 120))  # type: ignore[arg-type]  # a coroutine


def test_a_batch_that_expires_has_an_error_for_each_request_without_an_answer(tmp_path: Path) -> None:
    async def work() -> None:
        service = batches(tmp_path, Answers(most=2))
        batch = await ended(service, await begin(service, *"abcdef", seconds=2))
        assert (batch.status, batch.completed, batch.failed, batch.total) == ("expired", 2, 4, 6)
        assert len(lines(service, batch.output_file_id)) == 2
        assert {line["error"]["code"] for line in lines(service, batch.error_file_id)} == {"batch_expired"}
        assert service.pace.num_running == 0
        await service.close()

    run(work)


@pytest.mark.parametrize("size", [100_000, 2_000_000])
def test_a_batch_without_room_keeps_the_answers_that_it_has(tmp_path: Path, size: int) -> None:
    async def work() -> None:
        service = batches(tmp_path, Answers(size=size), files_mb=1)
        batch = await ended(service, await begin(service, *map(str, range(20))))
        assert batch.status == "failed"
        assert batch.errors[0]["code"] == "storage_full"
        assert len(lines(service, batch.output_file_id)) == batch.completed == ((1 << 20) // (size + 150))
        assert service.files.quota.num_bytes <= 1 << 20
        await service.close()

    run(work)


def test_a_batch_that_is_cut_off_continues_where_it_stopped(tmp_path: Path) -> None:
    async def work() -> None:
        service = batches(tmp_path, first := Answers(most=3))
        batch = await begin(service, *"abcdefgh")
        await until(lambda: batch.completed == 3)
        await service.close()
        output = tmp_path / "files" / f"{batch.output_id}.data"
        before = output.read_bytes()
        output.write_bytes(before + b'{"custom_id":"h","respon')
        service = batches(tmp_path, second := Answers())
        with pytest.raises(FileMissingError):
            service.files.get("", batch.output_id)
        service.start()
        done = await ended(service, batch)
        assert (done.status, done.completed, done.failed) == ("completed", 8, 0)
        assert sorted(first.asked[:3] + second.asked) == [*"abcdefgh"]
        assert output.read_bytes().startswith(before)
        assert service.files.quota.num_bytes == sum(file.bytes for file in service.files.of(""))
        await service.close()
        again = batches(tmp_path, Answers())
        assert again.store.get("", batch.id) == done
        assert again.files.quota.num_bytes == service.files.quota.num_bytes
        await again.close()

    run(work)


def test_a_batch_killed_between_its_files_and_its_record_ends_the_same(tmp_path: Path) -> None:
    async def work() -> None:
        service = batches(tmp_path, Answers())
        batch = await begin(service, *"abc")
        done = await ended(service, batch)
        await service.close()
        record = tmp_path / "batches" / f"{batch.id}.json"
        record.write_bytes(orjson.dumps(batch))  # as it was before its end
        service = batches(tmp_path, second := Answers())
        assert [file.purpose for file in service.files.of("")] == ["batch"]
        service.start()
        again = await ended(service, batch)
        assert (again.status, again.output_file_id, second.asked) == ("completed", done.output_file_id, [])
        assert service.files.quota.num_bytes == sum(file.bytes for file in service.files.of(""))
        await service.close()

    run(work)


def test_a_batch_is_cancelled_at_any_moment(tmp_path: Path) -> None:
    async def work() -> None:
        service = batches(tmp_path, Answers(most=2))
        early = await begin(service, *"abc")
        await service.cancel(early)
        late = await begin(service, *"abcdef")
        await until(lambda: late.completed == 2)
        await service.cancel(late)
        for batch, completed in ((early, 0), (late, 2)):
            done = await ended(service, batch)
            assert (done.status, done.completed) == ("cancelled", completed)
            with pytest.raises(RequestError, match="cancelled already"):
                await service.cancel(done)
        assert service.pace.num_running == 0
        await service.close()

    run(work)


def test_a_batch_cancelled_before_a_restart_stays_cancelled(tmp_path: Path) -> None:
    async def work() -> None:
        service = batches(tmp_path, Answers(most=1))
        batch = await begin(service, *"abc")
        await until(lambda: batch.completed == 1)
        await service.close()
        batch.reach("cancelling")
        (tmp_path / "batches" / f"{batch.id}.json").write_bytes(orjson.dumps(batch))
        service = batches(tmp_path, second := Answers())
        service.start()
        done = await ended(service, batch)
        assert (done.status, done.completed, second.asked) == ("cancelled", 1, [])
        await service.close()

    run(work)


def test_what_an_interrupted_upload_leaves_is_removed(tmp_path: Path) -> None:
    async def work() -> None:
        service = batches(tmp_path, Answers())
        kept = store(service, "a")
        with service.files.upload("") as upload:
            upload.write(b"x" * 1000)
        assert service.files.quota.num_bytes == service.files.get("", kept).bytes
        (tmp_path / "files" / ".file-1.part").write_bytes(b"x")
        (tmp_path / "files" / "file-2.data").write_bytes(b"x")
        await service.close()
        service = batches(tmp_path, Answers())
        assert {path.stem for path in (tmp_path / "files").iterdir()} == {kept}
        assert [file.id for file in service.files.of("")] == [kept]
        await service.close()

    run(work)


def test_expired_files_are_deleted_but_those_in_use(tmp_path: Path) -> None:
    async def work() -> None:
        service = batches(tmp_path, Answers(most=0))
        batch = await begin(service, "a")
        gone, used = store(service, "b", kept=-1), batch.input_file_id
        with pytest.raises(FileMissingError):
            service.files.get("", gone)
        service.files.delete_expired(service.store.names_in_use)
        assert not service.files.folder.data(gone).exists()
        assert service.files.folder.data(used).exists()
        with pytest.raises(RequestError, match="reads this file"):
            await service.delete(service.files.get("", used))
        await service.close()

    run(work)


def test_a_key_has_a_bounded_number_of_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        monkeypatch.setattr(batch_module, "MAX_OPEN", 2)
        monkeypatch.setattr(batch_module, "MAX_BATCHES", 3)
        service = batches(tmp_path, Answers())
        opened = [await begin(service, "a", tenant="x") for _ in range(2)]
        if all(not service.store.get("x", batch.id).has_ended for batch in opened):
            with pytest.raises(TooManyBatchesError):
                await begin(service, "a", tenant="x")
        for _ in range(4):
            await ended(service, await begin(service, "a", tenant="y"))
        assert len(service.store.of("y")) == 3
        await service.close()

    run(work)


def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    async def work() -> None:
        service = batches(tmp_path, Answers())
        with pytest.raises(ConfigError, match="another server uses"):
            batches(tmp_path, Answers())
        await service.close()
        await batches(tmp_path, Answers()).close()

    run(work)


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"server\.files_dir is .*file, which cannot be written"):
        batches(tmp_path / "file", Answers())
    (tmp_path / "batches").mkdir()
    (tmp_path / "batches" / "batch_1.json").write_text("{")
    with pytest.raises(ConfigError, match=r"batch_1\.json describes no batch"):
        batches(tmp_path, Answers())


def test_a_key_leaves_room_for_others() -> None:
    quota = Quota(100)
    quota.take("a", 80)
    with pytest.raises(StorageFullError, match=r"server\.files_mb"):
        quota.take("a", 4)
    quota.take("b", 16)
    alone = Quota(100)
    alone.take("", 100)
    with pytest.raises(StorageFullError):
        alone.take("", 1)


def test_a_batch_is_described_as_openai_describes_it() -> None:
    batch = Batch(
        id="batch_1",
        tenant="",
        endpoint=URL,
        input_file_id="file-1",
        completion_window="24h",
        created_at=int(time.time()),
        expires_at=int(time.time()) + 60,
        output_id="",
        error_id="",
    )
    batch.fail("invalid_value", "wrong", 3, "url")
    batch.reach("failed")
    Described.model_validate(batch.describe())
    assert 59 <= batch.remaining <= 60
