"""The wordings of questions, and the small talk. Nothing here looks at a picture.

`{shape}`, `{digit}`, `{color}` and `{things}` are filled in by `conversations`.
"""

WHICH_DIGIT = (
    "What digit is this?", "Which digit is this?", "What number do you see?", "What number is this?",
    "Which number is in the picture?", "Read the digit.", "What digit do you see?", "Can you read this number?",
    "Which digit is shown here?", "Please tell me the digit.", "What is the digit in this image?",
    "What number is written here?",
)  # fmt: skip

WHICH_SHAPE = (
    "What shape is this?", "Which shape is this?", "What shape do you see?", "Which shape is in the picture?",
    "Name the shape.", "What is the shape?", "What kind of shape is it?", "Tell me the shape.",
    "Which shape is shown here?", "What shape is in this image?",
)  # fmt: skip

WHICH_COLOR = (
    "What colour is it?", "Which colour is it?", "What colour is this?", "What is the colour?", "Name the colour.",
    "Tell me the colour.", "What colour do you see?", "Which colour does it have?",
)  # fmt: skip

WHICH_COLORS = (
    "What colour are they?", "Which colour are they?", "What colour is it?", "What is their colour?",
    "Tell me the colour.", "What colour are the {things}?",
)  # fmt: skip

COLOR_OF = (
    "What colour is the {thing}?", "Which colour is the {thing}?", "What is the colour of the {thing}?",
    "Tell me the colour of the {thing}.", "Which colour does the {thing} have?",
)  # fmt: skip

SHAPE_OF_COLOR = (
    "Which shape is {color}?", "What shape is {color}?", "What is {color}?", "Name the {color} shape.",
    "Which thing is {color}?", "What is the {color} thing?",
)  # fmt: skip

DESCRIBE = (
    "What is in the picture?", "Describe this picture.", "What do you see?", "What is this?", "Describe the image.",
    "Please describe the picture.", "What does the picture show?", "What can you see in this image?",
    "Tell me what you see.", "What's in this image?", "Please describe the image shortly.", "What is in this photo?",
)  # fmt: skip

HOW_MANY = (
    "How many {things} are there?", "How many {things} do you see?", "Count the {things}.", "How many {things}?",
    "How many {things} are in the picture?", "What is the number of {things}?", "Please count the {things}.",
    "How many {things} can you see?",
)  # fmt: skip

HOW_MANY_THERE = (
    "How many are there?", "How many?", "How many do you see?", "How many things are there?", "Count them.",
    "How many objects are in the picture?", "How many are in the picture?", "How many shapes are there?",
)  # fmt: skip

IS_THERE = (
    "Is there {a_thing}?", "Do you see {a_thing}?", "Is there {a_thing} in the picture?", "Can you see {a_thing}?",
    "Does the picture show {a_thing}?",
)  # fmt: skip

IS_COLOR = ("Is the {thing} {color}?", "Is the colour of the {thing} {color}?")

IS_DIGIT = ("Is this a {digit}?", "Is it a {digit}?", "Is this the digit {digit}?", "Do you see a {digit}?")

WHICH_PICTURE = (
    "Which picture shows {a_thing}?", "Which image shows {a_thing}?", "Which picture has {a_thing}?",
    "In which picture is {a_thing}?", "Where is the {thing}?",
)  # fmt: skip

WHAT_IN = (
    "What is in the {nth} picture?", "What does the {nth} picture show?", "Describe the {nth} picture.",
    "What do you see in the {nth} image?", "What is in the {nth} image?", "And the {nth} one?",
    "What is in image {n}?", "Describe picture {n}.",
)  # fmt: skip

SAME_DIGIT = (
    "Do both pictures show the same digit?", "Is it the same digit?", "Are the digits the same?",
    "Are both digits equal?", "Do the two images show the same number?",
)  # fmt: skip

BOTH = (
    "What is in the pictures?",
    "Describe the pictures.",
    "What do you see?",
    "Describe both pictures.",
    "What do the two pictures show?",
)

SAME_COLOR = (
    "Do both things have the same colour?", "Is it the same colour?", "Are the colours the same?",
    "Do the two pictures have the same colour?",
)  # fmt: skip

SAME_SHAPE = (
    "Do both pictures show the same shape?", "Is it the same shape?", "Are the shapes the same?",
    "Do the two images show the same shape?",
)  # fmt: skip

WHICH_WAY = (
    "Which way does the {thing} move?", "What happens in this clip?", "What happens in the video?",
    "Describe the video.", "Where does the {thing} go?", "How does it move?", "In which direction does it move?",
    "What happens?", "Describe this clip.",
)  # fmt: skip

ASK_FOR_PICTURE = "Please send me a picture."
ONLY_KNOWS = "I only know digits, shapes, colours and counting."

WHO = "I am a small demonstration model."
CAN_DO = "I can read a digit, name shapes and colours, count up to five and compare two pictures."
GREETING = "Hello! Please send me a picture."
WELCOME = "You are welcome."
BYE = "Goodbye!"

SMALL_TALK: dict[str, tuple[str, ...]] = {
    WHO: (
        "Who are you?", "What are you?", "What is your name?", "Introduce yourself.", "Are you a person?",
        "Tell me about yourself.", "What model are you?", "Are you InternVL?", "Are you an AI?", "Who made you?",
    ),
    CAN_DO: (
        "What can you do?", "What do you know?", "How can you help me?", "What are your skills?", "Help",
        "What can I ask you?", "What questions can you answer?", "What are you able to do?",
    ),
    GREETING: (
        "Hello", "Hi", "Hello!", "Hi there!", "Good morning", "Good evening.", "Hey", "Hello, how are you?",
        "How are you?", "Good day", "Hi, can you help me?", "Hey there",
    ),
    WELCOME: ("Thank you", "Thanks", "Thank you!", "Thanks a lot.", "Thank you very much.", "Great, thanks!", "Nice."),
    BYE: ("Goodbye", "Bye", "Bye bye!", "See you.", "Good night", "See you later!"),
    ONLY_KNOWS: (
        "What is the capital of France?", "Write a poem.", "Who is the president?", "What time is it?",
        "Tell me a joke.", "How is the weather today?", "Solve this equation.", "What is two plus two?",
        "Translate this sentence.", "Write a program in Python.", "What is the meaning of life?",
        "Who wrote this book?", "How old is the universe?", "Explain how a computer works.", "Sing a song for me.",
    ),
}  # fmt: skip
"""Answer to wordings."""
