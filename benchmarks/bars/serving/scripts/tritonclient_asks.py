"""NVIDIA's tritonclient, HTTP and gRPC."""

from typing import Any

import tritonclient.grpc
import tritonclient.http

from benchmarks.bars.serving.scripts.client_protocol import Job, check, read_job

ID = "a-request"


def over_http(job: Job) -> None:
    """Tensors as numbers and as bytes, both ways, and an answer not asked for by name."""
    client = tritonclient.http.InferenceServerClient(job.http)
    alive(job, client)
    check("name", client.get_model_metadata(job.model)["name"], job.model)
    check("extensions", client.get_server_metadata()["extensions"], ["binary_tensor_data"])
    for sent in (False, True):
        given = tritonclient.http.InferInput(job.input_name, job.inputs.shape, "FP32")
        given.set_data_from_numpy(job.inputs, binary_data=sent)
        for wanted in (False, True):
            output = tritonclient.http.InferRequestedOutput(job.output_name, binary_data=wanted)
            answer = client.infer(job.model, [given], outputs=[output], request_id=ID)
            check("id", answer.get_response()["id"], ID)
            ways = {False: "json", True: "binary"}
            job.keep(f"http-{ways[sent]}-{ways[wanted]}", answer.as_numpy(job.output_name))
        job.keep(f"http-{ways[sent]}-unnamed", client.infer(job.model, [given]).as_numpy(job.output_name))
    refused(client, tritonclient.http, job)


def over_grpc(job: Job) -> None:
    """Tensors as raw contents, in a call and in one that is not waited for."""
    client = tritonclient.grpc.InferenceServerClient(job.grpc)
    alive(job, client)
    check("name", client.get_model_metadata(job.model).name, job.model)
    given = tritonclient.grpc.InferInput(job.input_name, job.inputs.shape, "FP32")
    given.set_data_from_numpy(job.inputs)
    output = tritonclient.grpc.InferRequestedOutput(job.output_name)
    answer = client.infer(job.model, [given], outputs=[output], request_id=ID)
    check("id", answer.get_response().id, ID)
    job.keep("grpc-raw", answer.as_numpy(job.output_name))
    job.keep("grpc-unnamed", client.infer(job.model, [given]).as_numpy(job.output_name))
    refused(client, tritonclient.grpc, job)


def alive(job: Job, client: Any) -> None:
    """Health, and the version."""
    check("live", client.is_server_live(), True)
    check("ready", client.is_server_ready(), True)
    check("model ready", client.is_model_ready(job.model), True)
    check("version ready", client.is_model_ready(job.model, "1"), True)


def refused(client: Any, library: Any, job: Job) -> None:
    """A model that is not there is an error of the client's own kind."""
    given = library.InferInput(job.input_name, job.inputs.shape, "FP32")
    given.set_data_from_numpy(job.inputs)
    try:
        client.infer("another", [given])
    except library.InferenceServerException as error:
        check("the reason", "no model 'another'" in str(error), True)
    else:
        check("another model", "answers", "refused")


def main() -> None:
    """Ask in every way."""
    job = read_job()
    over_http(job)
    over_grpc(job)


if __name__ == "__main__":
    main()
