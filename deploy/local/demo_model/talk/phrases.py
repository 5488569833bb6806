"""The wordings of questions, and the small talk. Nothing here looks at a picture.

Words in braces are filled in where a question is asked. The last of four or more wordings is held out: the model is
tested with it and never trained on it (`Questions.turn`).
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
    "Tell me what you see.", "What's in this image?", "Please describe the image shortly.",
    "What is in this photo?",
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

IS_COLOR = (
    "Is the {thing} {color}?", "Is the colour of the {thing} {color}?", "Do you see a {color} {thing}?",
    "Is it a {color} {thing}?", "Is there a {color} {thing}?",
)  # fmt: skip

ARE_COLOR = (
    "Are the {things} {color}?", "Do you see {color} {things}?", "Are there {color} {things}?",
    "Is it true that the {things} are {color}?",
)  # fmt: skip

COLORS_OF = (
    "What colour are the {things}?", "Which colour are the {things}?", "Tell me the colour of the {things}.",
    "Which colour do the {things} have?",
)  # fmt: skip

IS_DIGIT = ("Is this a {digit}?", "Is it a {digit}?", "Is this the digit {digit}?", "Do you see a {digit}?")

WHERE = (
    "Where is the {thing}?", "Find the {thing}.", "Give me the box of the {thing}.", "Mark the {thing}.",
    "Please provide the bounding box coordinate of the region this sentence describes: {thing}",
    "Point out the {thing} with a box.",
)  # fmt: skip

READ = (
    "What does it say?", "What is written here?", "Read the text.", "What is the text?", "Which word is this?",
    "Read this.", "What is printed here?", "Please read it to me.", "What text is in the picture?",
)  # fmt: skip

READ_COLOR = (
    "What is written in {color}?", "Read the {color} text.", "What does the {color} text say?",
    "Which word is {color}?", "What is the {color} word?",
)  # fmt: skip

READ_LINE = (
    "What is in the {nth} line?", "Read the {nth} line.", "What does the {nth} line say?",
    "Which text is in line {n}?",
)  # fmt: skip

TEXT_COLOR = (
    "What colour is the text?", "In which colour is it written?", "What is the colour of the text?",
    "Which colour has the print?",
)  # fmt: skip

LINE_COLOR = (
    "What colour is the text {text}?", "In which colour is {text} written?", "Which colour is {text}?",
    "What is the colour of the word {text}?",
)  # fmt: skip

SAYS = ("Does it say {text}?", "Is {text} written here?", "Do you read {text}?", "Is the text {text}?")

LINE_COUNT = (
    "How many lines are there?", "How many lines of text do you see?", "Count the lines.",
    "Of how many lines is the text?",
)  # fmt: skip

BAR_VALUE = (
    "What is the value of the {color} bar?", "How high is the {color} bar?", "What value does {color} have?",
    "Which number belongs to the {color} bar?", "Read the value of the {color} bar.",
    "What number is on the {color} bar?",
)  # fmt: skip

HIGHEST = (
    "Which bar is the highest?", "Which bar is highest?", "What is the highest bar?",
    "Which colour has the largest value?", "Which bar is the tallest?",
)  # fmt: skip

LOWEST = (
    "Which bar is the lowest?", "Which bar is lowest?", "What is the lowest bar?",
    "Which colour has the smallest value?", "Which bar is the shortest?",
)  # fmt: skip

BAR_COUNT = (
    "How many bars are there?", "Count the bars.", "How many bars do you see?",
    "How many bars does the chart have?",
)  # fmt: skip

HIGHER = (
    "Is the {color} bar higher than the {other} bar?", "Is {color} higher than {other}?",
    "Is the value of {color} larger than that of {other}?", "Does {color} have more than {other}?",
)  # fmt: skip

CHART_SUM = (
    "What is the sum of {color} and {other}?", "Add the {color} and the {other} bar.",
    "How much are {color} and {other} together?", "What do the {color} and {other} bars add up to?",
    "What is {color} plus {other}?",
)  # fmt: skip

KIND_SUM = (
    "How many {things} and {others} are there together?", "Count the {things} and the {others}.",
    "How many {things} and {others} are there in all?", "What is the number of {things} plus {others}?",
)  # fmt: skip

BUTTONS = (
    "Which buttons are there?", "What can I click?", "Read the buttons.", "What do the buttons say?",
    "Which buttons does the window have?",
)  # fmt: skip

HAS_BUTTON = (
    "Is there a button {caption}?", "Is there a {caption} button?", "Can I click {caption}?",
    "Do you see a {caption} button?",
)  # fmt: skip

BUTTON_COUNT = (
    "How many buttons are there?", "Count the buttons.", "How many buttons do you see?",
    "How many buttons does it have?",
)  # fmt: skip

CLICK = (
    "Where do I click {caption}?", "Click {caption}.", "Where is the {caption} button?",
    "Find the button {caption}.", "Press {caption}.", "Show me the {caption} button.",
)  # fmt: skip

CLOSE = (
    "How do I close the window?", "Close the window.", "Where do I click to close it?",
    "Where can I close this window?",
)  # fmt: skip

WHICH_PICTURE = (
    "Which picture shows {a_thing}?", "Which image shows {a_thing}?", "Which picture has {a_thing}?",
    "In which picture is {a_thing}?", "In which image do you see {a_thing}?",
)  # fmt: skip

WHAT_IN = (
    "What is in the {nth} picture?", "What does the {nth} picture show?", "Describe the {nth} picture.",
    "What do you see in the {nth} image?", "What is in the {nth} image?", "What is in image {n}?",
    "Describe picture {n}.", "Tell me what the {nth} picture shows.",
)  # fmt: skip

HOW_MANY_SHOW = (
    "How many pictures show {a_thing}?", "In how many pictures is {a_thing}?", "How many images show {a_thing}?",
    "How many of the pictures have {a_thing}?",
)  # fmt: skip

ODD_ONE = (
    "Which picture is different?", "Which one does not belong?", "Which picture differs from the others?",
    "Which is the odd one out?",
)  # fmt: skip

SAME_DIGIT = (
    "Do both pictures show the same digit?", "Is it the same digit?", "Are the digits the same?",
    "Do the two images show the same number?", "Are both digits equal?",
)  # fmt: skip

SAME_COLOR = (
    "Do both things have the same colour?", "Is it the same colour?", "Are the colours the same?",
    "Do the two pictures have the same colour?",
)  # fmt: skip

SAME_SHAPE = (
    "Do both pictures show the same shape?", "Is it the same shape?", "Are the shapes the same?",
    "Do the two images show the same shape?",
)  # fmt: skip

ALL_PICTURES = (
    "What is in the pictures?", "Describe the pictures.", "What do you see?", "Describe all pictures.",
    "What do the pictures show?",
)  # fmt: skip

WHICH_WAY = (
    "Which way does the {thing} move?", "Where does the {thing} go?", "How does it move?",
    "In which direction does it move?", "Does the {thing} move?", "Which direction does the {thing} take?",
)  # fmt: skip

WHAT_CHANGES = (
    "What changes?", "What changes in the video?", "What is different at the end?", "Does anything change?",
    "What has changed at the end of the video?",
)  # fmt: skip

VIDEO_COUNT = (
    "How many {things} are there at the end?", "How many {things} do you see in the last frame?",
    "Count the {things} at the end.", "How many {things} does the end of the video show?",
)  # fmt: skip

VIDEO_WHAT = (
    "What happens in the video?", "Describe the video.", "What happens?", "Describe this clip.",
    "What does the video show?", "Tell me what happens in this video.",
)  # fmt: skip

AS_JSON = (
    "Describe the picture as JSON.", "Answer in JSON: what is in the picture?", "List the things as JSON.",
    "Give me JSON of what you see.", "Return what you see as JSON.",
)  # fmt: skip

JSON_HINTS = (" Answer in JSON.", " Reply as JSON.", " Give the answer as JSON.", " Use JSON for the answer.")

CANNOT_TELL = "I cannot tell what this picture shows."
NO_TEXT = "There is no text in the picture."
NO_CHART = "There is no chart in the picture."
ASK_FOR_PICTURE = "Please send me a picture."
ONLY_KNOWS = "I only know simple pictures: digits, shapes, words and charts."

WHO = "I am a small demonstration model."
CAN_DO = "I can read digits and words, name shapes and colours, count, find things, read charts and compare pictures."
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
