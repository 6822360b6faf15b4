"""Values for TensorBoard beside scalars: pictures, and text in Markdown."""

import io

from PIL import Image
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.proto.tensor_pb2 import TensorProto  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.proto.types_pb2 import DT_STRING  # pyright: ignore[reportAttributeAccessIssue]


def picture_value(tag: str, picture: Image.Image) -> Summary.Value:
    """Returns a picture for TensorBoard's tab of images."""
    data = io.BytesIO()
    picture.save(data, format="PNG")
    image = Summary.Image(
        height=picture.height, width=picture.width, colorspace=3,
        encoded_image_string=data.getvalue(),
    )  # fmt: skip
    return Summary.Value(tag=tag, image=image)


def text_value(tag: str, text: str) -> Summary.Value:
    """Returns a text in Markdown for TensorBoard's tab of texts."""
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()])
    return Summary.Value(tag=tag, metadata=metadata, tensor=tensor)
