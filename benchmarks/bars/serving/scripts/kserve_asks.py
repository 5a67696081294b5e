"""KServe's client, REST and gRPC."""

import asyncio

from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

from benchmarks.bars.serving.scripts.client_protocol import Job, check, read_job


def request(job: Job, binary: bool) -> InferRequest:
    """Of the input, as numbers or as bytes."""
    given = InferInput(job.input_name, list(job.inputs.shape), "FP32")
    given.set_data_from_numpy(job.inputs, binary_data=binary)
    return InferRequest(job.model, [given])


async def over_rest(job: Job) -> None:
    """Numbers and bytes."""
    client, base = InferenceRESTClient(config=RESTConfig(protocol="v2", timeout=60)), f"http://{job.http}"
    check("live", await client.is_server_live(base), True)
    check("ready", await client.is_server_ready(base), True)
    check("model ready", await client.is_model_ready(base, job.model), True)
    for way, binary in (("json", False), ("binary", True)):
        answer = await client.infer(base, request(job, binary), model_name=job.model)
        # Numbers of JSON become float64 in this client; they are float32's all the same.
        job.keep(f"http-{way}", answer.outputs[0].as_numpy().astype("float32"))


async def over_grpc(job: Job) -> None:
    """Typed and raw contents."""
    client = InferenceGRPCClient(url=job.grpc)
    check("ready", await client.is_server_ready(), True)
    check("model ready", await client.is_model_ready(job.model), True)
    for way, binary in (("typed", False), ("raw", True)):
        answer = await client.infer(request(job, binary))
        job.keep(f"grpc-{way}", answer.outputs[0].as_numpy())
    await client.close()


async def main() -> None:
    """Ask in every way."""
    job = read_job()
    await over_rest(job)
    await over_grpc(job)


if __name__ == "__main__":
    asyncio.run(main())
